#!/usr/bin/env bash
# Goal: submit_job.sh and job.sh do what an operator wants of them, over the real HTTP API.
# Method: a coordinator's HTTP server that plays scripted jobs of 3 s (fake_coordinator_main.cc); exit statuses and
# texts are compared. Usage: scripts_test.sh FAKE_COORDINATOR
set -uo pipefail
scripts=$(cd "$(dirname "$0")/../../../scripts" && pwd)
fake=$1
work=$(mktemp -d)
failures=0
checks=0
fake_pid=

# shellcheck disable=SC2317 # called by the trap
clean_up() {
  exec 9>&- 2> /dev/null
  [[ -z $fake_pid ]] || wait "$fake_pid"
  rm -rf "$work"
}
trap clean_up EXIT

# start_fake [PORT]: it lives until descriptor 9 is closed.
start_fake() {
  rm -f "$work/port" "$work/stdin"
  mkfifo "$work/stdin"
  "$fake" "$work/port" "$@" < "$work/stdin" &
  fake_pid=$!
  exec 9> "$work/stdin"
  for ((i = 0; i < 100; i++)); do
    [[ -s $work/port ]] && break
    sleep 0.05
  done
  port=$(cat "$work/port")
  export NANDUTI_SERVER=http://127.0.0.1:$port
}
stop_fake() {
  exec 9>&-
  wait "$fake_pid"
  fake_pid=
}

fail() {
  failures=$((failures + 1))
  echo "FAILED: $*"
  printf '  stdout: %s\n' "$(cat "$work/out")"
  printf '  stderr: %s\n' "$(cat "$work/err")"
}

# run COMMAND...: leaves status, $work/out and $work/err.
run() {
  what=$*
  "$@" > "$work/out" 2> "$work/err" < /dev/null 9>&-
  status=$?
}
has_status() {
  checks=$((checks + 1))
  [[ $status == "$1" ]] || fail "$what: exit status $status, not $1"
}
# says out|err PATTERN: a line of it matches.
says() {
  checks=$((checks + 1))
  grep -Eq -- "$2" "$work/$1" || fail "$what: std$1 has no line that matches: $2"
}
says_not() {
  checks=$((checks + 1))
  if grep -Eq -- "$2" "$work/$1"; then fail "$what: std$1 has a line that matches: $2"; fi
}
# out_is TEXT
out_is() {
  checks=$((checks + 1))
  [[ $(cat "$work/out") == "$1" ]] || fail "$what: stdout is not: $1"
}
# json FILTER TEXT: of stdout.
json() {
  checks=$((checks + 1))
  [[ $(jq -cr "$1" "$work/out" 2> /dev/null) == "$2" ]] || fail "$what: $1 is not $2"
}

for ending in met missed none failed endless bad; do
  printf '# %s\nmodel: {preset: lenet}\ncolour: blue\n' "$ending" > "$work/$ending.yaml"
done

# ---- nobody there ----
export NANDUTI_SERVER=http://127.0.0.1:9
for command in "submit_job.sh $work/met.yaml" "job.sh list" "job.sh status 1" "job.sh follow 1" "job.sh cancel 1" \
  "job.sh tune 1 bound=2" "job.sh workers" "job.sh counters"; do
  # shellcheck disable=SC2086 # words
  run "$scripts"/$command
  has_status 1
  says err 'no server answers at http://127.0.0.1:9: is nanduti-server running\?'
  out_is ""
done

start_fake

# ---- nothing submitted yet; what is not there ----
run "$scripts/job.sh" list
has_status 0
says out '^id +name +state'
run "$scripts/job.sh" list --json
json .jobs '[]'
run "$scripts/job.sh" status 77
has_status 1
says err 'no job has the id 77 at .*; scripts/job.sh list shows'
run "$scripts/job.sh" follow 77
has_status 1
run "$scripts/job.sh" cancel 77
has_status 1
run "$scripts/job.sh" status ../x
has_status 64
run "$scripts/job.sh" status abc
has_status 1
run "$scripts/job.sh" status
has_status 64
says err 'status takes 1 argument'
run "$scripts/job.sh" dance
has_status 64

# ---- what cannot be submitted ----
run "$scripts/submit_job.sh" "$work/bad.yaml"
has_status 1
out_is ""
says err "^$work/bad.yaml:3: colour: unknown key; allowed are: model, data$"
run "$scripts/submit_job.sh" "$work/nowhere.yaml"
has_status 1
says err "cannot read the job's file $work/nowhere.yaml"
: > "$work/empty.yaml"
run "$scripts/submit_job.sh" "$work/empty.yaml"
has_status 1
says err "$work/empty.yaml: the job is empty"
head -c 600000 /dev/zero | tr '\0' '#' > "$work/large.yaml"
run "$scripts/submit_job.sh" "$work/large.yaml"
has_status 1
says err "a request's body has at most 524288 bytes"
run "$scripts/submit_job.sh"
has_status 64

# ---- jobs that end in each way, at the same time; plain lines in a pipe ----
touch "$work/port.hold" # jobs wait for workers until it is gone
# wait_for PATTERN FILE: until a line of it matches; half a minute, as other things may run here.
wait_for() {
  for ((i = 0; i < 300; i++)); do
    grep -Eq -- "$1" "$2" 2> /dev/null && return
    sleep 0.1
  done
  cp "$2" "$work/out"
  fail "there is no $1 in $2"
}
follow() {
  "$scripts/submit_job.sh" "$work/$1.yaml" --follow > "$work/$1.out" 2> "$work/$1.err" < /dev/null 9>&-
  echo $? > "$work/$1.status"
}
ids=()
pids=()
for ending in met missed none failed; do
  follow "$ending" &
  pids+=($!)
  ids+=("$ending")
  wait_for . "$work/$ending.out" # so that ids are in order
done
run "$scripts/submit_job.sh" "$work/endless.yaml"
has_status 0
out_is 5
run "$scripts/job.sh" list
says out '^5 +scripted +running'
run "$scripts/job.sh" status 5 --json
has_status 0
json '[.id, .state, .waiting_for] | join(",")' '5,running,2 workers (1 is here)'
json 'keys | length' 31
run "$scripts/job.sh" status 5
says out '^waiting_for +2 workers \(1 is here\)$'
says out '^accuracy +-$'

# Followers in a pipe and on two terminals, that are there when the job is cancelled.
"$scripts/job.sh" follow 5 > "$work/5.out" 2> "$work/5.err" < /dev/null 9>&- &
followers=($!)
has_terminal=false # a container may have none; the test beside this one is skipped then, and says so
if script -qec true /dev/null > /dev/null 2>&1 < /dev/null; then has_terminal=true; fi
if $has_terminal; then
  for columns in 200 80; do
    script -qefc "stty cols $columns; $scripts/job.sh follow 5" /dev/null > "$work/terminal$columns" < /dev/null 9>&- &
    followers+=($!)
  done
  wait_for 'waiting for' "$work/terminal200"
  wait_for 'waiting for' "$work/terminal80"
else
  echo "no pseudo-terminal here: the live line is not tested"
fi
for file in 5.out met.err missed.err none.err failed.err; do wait_for 'waiting for' "$work/$file"; done
rm "$work/port.hold"
if $has_terminal; then
  wait_for '/3 \[#' "$work/terminal200"
  wait_for '/3 \[#' "$work/terminal80"
fi
run "$scripts/job.sh" tune 5 bound=8 compression.push.density=0.05 compression.push.value_bits=4
has_status 0
out_is 'bound 8, local_steps 1, from round 40, as soon as every active worker has taken it: tuned by an operator'
run "$scripts/job.sh" status 5 --json
json '.tuning.settings | contains("push: {density: 0.05, value_bits: 4,")' true
printf 'staleness:\n  bound: auto\n  bound_max: 9\n' > "$work/tuning.yaml"
run "$scripts/job.sh" tune 5 "$work/tuning.yaml" --json
has_status 0
json .tuning.bound 9
json .tuning.auto_bound true
run "$scripts/job.sh" tune 5 bound=-1
has_status 1
says err 'arguments:2: staleness.bound: found "-1", allowed: a whole number from 0 to 1024, auto, or none'
run "$scripts/job.sh" tune 5 training.epochs=2
has_status 1
says err 'arguments:1: training: found an unknown key'
for wrong in "5" "5 $work/nowhere.yaml" "5 bound" "77 bound=1"; do
  # shellcheck disable=SC2086 # words
  run "$scripts/job.sh" tune $wrong
  checks=$((checks + 1))
  [[ $status != 0 ]] || fail "tune $wrong succeeds"
done
run "$scripts/job.sh" cancel 5
has_status 0
says err 'job 5 is being cancelled'
for follower in "${followers[@]}"; do
  wait "$follower"
  status=$?
  what="follow a job that is cancelled"
  has_status 3
done
cp "$work/5.out" "$work/out"
says out '^job 5 was cancelled(: .*)?$'
if $has_terminal; then
  what="follow on a terminal"
  cp "$work/terminal200" "$work/out"
  # One live line, drawn over itself, and no plain ones.
  says out $'\r''epoch 0/3 \(waiting for 2 workers \(1 is here\)\) \[\.{20}\] 0% '
  says out $'\r''epoch [123]/3 \[#+\.*\] [0-9]+% 60000/s loss 0\.[0-9]{3} stale 0\.5 up [0-9.]+[KM] down [0-9.]+[KM] stall 4% ETA 0:0[0-9]'
  says_not out '^epoch [0-9]/3 [0-9]+%'
  what="follow on a terminal of 80 columns"
  tr '\r' '\n' < "$work/terminal80" > "$work/out"
  says out '^epoch [123]/3 \[#+\.*\] 60000/s loss 0\.[0-9]{3} .* ETA 0:0[0-9]'
  says_not out '.{83}' # with the three bytes that clear the rest of the line
fi
run "$scripts/job.sh" cancel 5
has_status 0
run "$scripts/job.sh" status 5 --json
json .state cancelled

wait "${pids[@]}"
number=0
for ending in "${ids[@]}"; do
  number=$((number + 1))
  what="submit_job.sh --follow, $ending"
  cp "$work/$ending.out" "$work/out"
  cp "$work/$ending.err" "$work/err"
  status=$(cat "$work/$ending.status")
  out_is "$number"
  says err '^epoch 0/3 \(waiting for 2 workers \(1 is here\)\) 0%  0 samples/s  loss -'
  says err '^epoch 1/3: accuracy 0\.8300, loss 0\.5000$'
  says err '^epoch 2/3: accuracy 0\.8600, loss 0\.4000$'
  says err '^epoch 3/3: accuracy 0\.8900, loss 0\.3000$'
  says err '^after 90016 samples: accuracy 0\.8450$'
  checks=$((checks + 1))
  [[ $(grep -c '^after ' "$work/err") == 1 ]] || fail "$what: an evaluation is not one line"
  checks=$((checks + 1))
  [[ $(grep -c '^epoch ./3: accuracy' "$work/err") == 3 ]] || fail "$what: not one line for each epoch"
  says_not err $'\r'
  case $ending in
    met)
      has_status 0
      says err '^job 1 is done: accuracy 0\.8900, target 0\.85 met; model /data/1/model\.safetensors$'
      ;;
    missed)
      has_status 1
      says err '^job 2 is done: accuracy 0\.8900, target 0\.95 missed; '
      ;;
    none)
      has_status 0
      says err '^job 3 is done: accuracy 0\.8900; model '
      ;;
    failed)
      has_status 2
      says err '^job 4 failed: train-labels: label 12 where 0 to 9 are allowed$'
      ;;
  esac
done

# ---- afterwards ----
run "$scripts/job.sh" list
says out '^1 +scripted +done +3/3 +0\.89 '
says out '^2 +scripted +done \(target missed\)'
says out '^4 +scripted +failed'
run "$scripts/job.sh" status 1 --json
json '[.state, .target_met, .epoch, .samples, .repeated_samples, .accuracy, .loss, .stall_fraction, .bytes_up, .bytes_down]' \
  '["done",true,3,180000,0,0.89,0.3,0.042,50000000,70000000]'
run "$scripts/job.sh" cancel 1
has_status 1
says err 'job 1 is over already: done'
run "$scripts/job.sh" follow 4
has_status 2
run "$scripts/job.sh" workers
says out '^job 1: membership epoch 7, 1 active, smallest clock 12; the gate waits for asuncion-01$'
says out '^1 +asuncion-01 +asuncion +active +cpu +1 +3 +12 +640 +slowest +2500 +13% +0 s ago$'
says out '^2 +asuncion-02 +asuncion +idle +cpu +- +- +- +- +- '
says out '^gone:$'
says out '^3 +asuncion-03 +asuncion +1 +9 +61 s ago +its lease has expired$'
run "$scripts/job.sh" workers --json
json '.workers | length' 2
json '[.membership.epoch, .workers[0].entry_clock, .gone[0].reason] | join(",")' '7,3,its lease has expired'
run "$scripts/job.sh" counters
has_status 0
says out '^transport +frames_in +12$'
says out '^shard 1 +settled +40$'
says_not out 'dropped_malformed|redials|refused'
run "$scripts/job.sh" counters --json
json '[.transport.frames_in, .transport.dropped_malformed, (.cores | map(.core))]' '[12,0,["coordinator","shard 1"]]'
run "$scripts/job.sh" counters 1
has_status 64
run "$scripts/job.sh" list --server "127.0.0.1:$port"
has_status 0

# ---- the server goes away under a follower and comes back without the job; Ctrl-C leaves a job running ----
"$scripts/submit_job.sh" "$work/endless.yaml" > "$work/out" 2> "$work/err" < /dev/null 9>&-
"$scripts/job.sh" follow 6 > "$work/6.out" 2> "$work/6.err" < /dev/null 9>&- &
follower=$!
setsid -w bash -c 'trap - INT; exec "$@"' _ timeout -s INT 2 "$scripts/job.sh" follow 6 > "$work/out" 2> "$work/err" \
  < /dev/null 9>&-
what="Ctrl-C"
says err "job 6 keeps running; follow it again with scripts/job.sh follow 6 --server http://127.0.0.1:$port"
run "$scripts/job.sh" status 6 --json
json .state running
stop_fake
sleep 2
start_fake "$port"
wait "$follower"
status=$?
what="follow through a restart that forgot the job"
cp "$work/6.out" "$work/out"
has_status 2
says out 'no news from .*: waiting for it'
says out 'does not know job 6 any more'

# ---- a second server on the same port ----
run "$fake" "$work/port2" "$port"
has_status 1
says err "^127.0.0.1:$port is in use by another program$"

echo "$checks checks, $failures failures"
((failures == 0))
