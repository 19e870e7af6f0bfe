#!/usr/bin/env bash
# Goal: a job ends well, whatever happens to its processes and their links: workers killed, stopped for longer and
# shorter than each time-out, drained; the server stopped; links cut, both ways or one, and healed.
# Method: real processes, each worker in a network namespace of its own with a link to the server's; the disturbances
# are drawn from a printed seed. Jobs that nobody disturbs say what is to be expected.
# Usage: BIN=FOLDER chaos_test.sh [SEED...]: one disturbed job for each seed (default: 1). From the environment:
#   CHAOS_DISTURBANCES  in each job (default 6)
#   CHAOS_REFERENCES    undisturbed jobs before (default 1)
#   CHAOS_WORKERS       (default 3)
#   CHAOS_BOUND         of staleness (default 2)
#   CHAOS_KEEP          a folder that logs and records are copied to
# The namespaces are this script's own: nothing outside is touched, and they are gone when its processes are.
# Without the right to make them links are not cut, and it says so.
# shellcheck disable=SC2317 # disturbances are called by name
if [[ -z ${CHAOS_LINKS:-} ]]; then
  export CHAOS_LINKS=false
  for user in "" --user; do
    # shellcheck disable=SC2086 # none or one
    if unshare $user ${user:+--map-root-user} --net --mount bash -c \
      'mount -t tmpfs none /run && ip link set lo up && ip netns add probe && ip link add name near type veth peer name far netns probe' \
      > /dev/null 2>&1; then
      export CHAOS_LINKS=true
      # shellcheck disable=SC2086 # none or one
      exec unshare $user ${user:+--map-root-user} --net --mount "$0" "$@"
    fi
  done
fi
# shellcheck source=test/e2e/daemons/harness.sh
source "$(dirname "$0")/harness.sh"
: "${BIN:?the folder of nanduti-server and nanduti-worker}"

links=$CHAOS_LINKS
wanted=${CHAOS_DISTURBANCES:-6}
references=${CHAOS_REFERENCES:-1}
workers=${CHAOS_WORKERS:-3}
bound=${CHAOS_BOUND:-2}
seeds=("$@")
((${#seeds[@]} > 0)) || seeds=(1)

# Time-outs of the membership, milliseconds. A server forgets a session 10 s after its worker is dead.
suspend_after=1500
dead_after=3500
train_samples=6000
test_samples=2000
batch=32
window_rounds=64    # ReplicaOptions::window_rounds_max: what a worker has under way at most
memory_factor=2     # peak memory of a disturbed process, in units of an undisturbed one's
shards=2
parameters=235146 # of the mlp

# ---- places and links ----

server_address=127.0.0.1
if $links; then
  mount -t tmpfs none /run
  ip link set lo up
  DATA_HOST=0.0.0.0
  SERVER_LINES='security: none'
  WORKER_LINES='security: none'
fi
# connect_place NUMBER: a namespace for worker wNUMBER. Where the kernel can, both directions have 160 Mbit/s, so that
# the link sets the pace and not the machine.
connect_place() {
  local end
  $links || return 0
  ip netns add "w$1"
  ip link add name "to$1" type veth peer name wan netns "w$1"
  ip address add "10.0.$1.1/30" dev "to$1"
  ip link set "to$1" up
  ip -n "w$1" address add "10.0.$1.2/30" dev wan
  ip -n "w$1" link set wan up
  ip -n "w$1" link set lo up
  tc qdisc add dev "to$1" root tbf rate 160mbit burst 256k latency 100ms 2> /dev/null
  tc -n "w$1" qdisc add dev wan root tbf rate 160mbit burst 256k latency 100ms 2> /dev/null
}
# start_place NUMBER: worker wNUMBER in its place.
start_place() {
  local INSIDE=()
  if $links; then
    INSIDE=(ip netns exec "w$1")
    server_address=10.0.$1.1
  fi
  start_worker "w$1" "tcp://$server_address:${data_endpoint##*:}"
}

# An address that nobody has: what is sent there is lost without a word to the sender.
nowhere=02:00:00:00:00:99
lose_up() { ip -n "w$1" neigh replace "10.0.$1.1" lladdr "$nowhere" dev wan nud permanent; }
find_up() { ip -n "w$1" neigh del "10.0.$1.1" dev wan; }
lose_down() { ip neigh replace "10.0.$1.2" lladdr "$nowhere" dev "to$1" nud permanent; }
find_down() { ip neigh del "10.0.$1.2" dev "to$1"; }

# ---- disturbances: begin_KIND WORKER and end_KIND WORKER ----

each_worker() {
  local i
  for ((i = 1; i <= workers; i++)); do "$1" "$i"; done
}
pause() { kill -STOP "${pid_of[w$1]}"; }
resume() { kill -CONT "${pid_of[w$1]}"; }
crash() { kill_and_reap "w$1"; }
begin_kill() { crash "$1"; }
end_kill() { start_place "$1"; }
begin_kill_all() { each_worker crash; }
end_kill_all() { each_worker start_place; }
begin_drain() { kill -TERM "${pid_of[w$1]}"; }
end_drain() {
  check "w$1 drains" wait_until 30 has_ended "w$1"
  stop "w$1" KILL
  check "w$1 ends with status 0, not $stop_status" test "$stop_status" = 0
  start_place "$1"
}
begin_stop() { pause "$1"; }
end_stop() { resume "$1"; }
begin_stop_all() { each_worker pause; }
end_stop_all() { each_worker resume; }
begin_stop_server() { kill -STOP "${pid_of[server]}"; }
end_stop_server() { kill -CONT "${pid_of[server]}"; }
begin_unplug() { ip link set "to$1" down; }
end_unplug() { ip link set "to$1" up; }
begin_silence() { lose_up "$1" && lose_down "$1"; }
end_silence() { find_up "$1" && find_down "$1"; }
begin_silence_up() { lose_up "$1"; }
end_silence_up() { find_up "$1"; }
begin_silence_down() { lose_down "$1"; }
end_silence_down() { find_down "$1"; }
begin_unplug_all() { each_worker begin_unplug; }
end_unplug_all() { each_worker end_unplug; }
# Killed behind a link that is cut: nobody hears of it but by silence.
begin_unplug_kill() { begin_unplug "$1" && crash "$1"; }
end_unplug_kill() { end_unplug "$1" && start_place "$1"; }

# kind:least:most milliseconds. Against suspend_after and dead_after: shorter than both, between, longer than both, and
# longer than the server keeps a session.
kinds=(kill:0:2500 kill_all:0:2500 drain:500:2500 stop:200:1000 stop:1900:2900 stop:4500:6000 stop_all:1900:2900
  stop_server:500:5000)
if $links; then
  kinds+=(unplug:200:1000 unplug:1900:2900 unplug:4500:6000 unplug:15000:16000 silence:200:1000 silence:1900:2900
    silence:4500:6000 silence_up:1900:6000 silence_down:1900:6000 unplug_all:1900:6000 unplug_kill:500:5000)
fi

# draw LEAST MOST: sets drawn.
draw() { drawn=$(($1 + (RANDOM * 32768 + RANDOM) % ($2 - $1 + 1))); }
# plan SEED: sets plan, lines of "MILLISECOND begin|end KIND WORKER", and plan_end. Every kind once before one comes
# again. Now and then the next one begins while this one lasts, at another worker.
plan() {
  local -a deck=() free=()
  local i kind least most at=500 hold victim j
  RANDOM=$1
  plan_end=0
  plan=
  for ((i = 0; i <= workers; i++)); do free[i]=0; done # when each worker is left alone again
  for ((i = 0; i < wanted; i++)); do
    ((${#deck[@]} > 0)) || deck=("${kinds[@]}")
    draw 0 $((${#deck[@]} - 1))
    IFS=: read -r kind least most <<< "${deck[drawn]}"
    unset "deck[drawn]"
    deck=("${deck[@]}")
    draw "$least" "$most"
    hold=$drawn
    draw 1 "$workers"
    victim=$drawn
    if [[ $kind == *_all || $kind == *_server ]]; then
      for ((j = 1; j <= workers; j++)); do ((free[j] > at)) && at=${free[j]}; done
      for ((j = 1; j <= workers; j++)); do free[j]=$((at + hold + 700)); done
      victim=0
    fi
    ((free[victim] > at)) && at=${free[victim]}
    plan+="$at begin $kind $victim"$'\n'"$((at + hold)) end $kind $victim"$'\n'
    free[victim]=$((at + hold + 700))
    ((at + hold > plan_end)) && plan_end=$((at + hold))
    draw 0 2
    if ((drawn > 0)); then
      draw 300 1500
      at=$((at + hold + drawn))
    else
      draw 100 500
      at=$((at + drawn))
    fi
    [[ $kind != *_all && $kind != *_server ]] || ((at > free[0])) || at=$((free[1]))
  done
  plan=$(sort -n <<< "${plan%$'\n'}")
}

# ---- watching ----

milliseconds() { echo $(($(date +%s%N) / 1000000)); }
# kill_and_reap NAME: noting its peak memory first.
kill_and_reap() {
  note_memory "$1"
  stop "$1" KILL
}
# note_memory NAME: its peak so far, KiB, into peak_of.
declare -A peak_of=()
note_memory() {
  local peak
  peak=$(awk '/^VmHWM/ {print $2}' "/proc/${pid_of[$1]:-0}/status" 2> /dev/null)
  ((${peak:-0} <= ${peak_of[${1%%[0-9]*}]:-0})) || peak_of[${1%%[0-9]*}]=$peak
}
note_all_memory() {
  local name
  for name in "${!pid_of[@]}"; do note_memory "$name"; done
}
# watch_job: asks as an operator does, as long as $work/watch is there; what is not answered is in $work/unanswered.
watch_job() {
  local command answer
  while [[ -e $work/watch ]]; do
    for command in "status $id" workers list; do
      # shellcheck disable=SC2086 # words
      answer=$("$top/scripts/job.sh" $command 2>&1) || echo "$command: $answer" >> "$work/unanswered"
      echo x >> "$work/answered"
    done
    sleep 0.5
  done
}

# run_job FILE [PLAN]: the job from its start to its end, disturbed by the plan. Sets id, seconds_taken, late (events
# that came after its end).
run_job() {
  local begin moment word kind victim
  rm -f "$work/unanswered" "$work/answered"
  touch "$work/watch"
  submit "$1"
  watch_job &
  pid_of[watch]=$!
  wait_until 60 samples_above "$id" 0 || {
    fail "training begins"
    finish
  }
  begin=$(milliseconds)
  late=0
  while read -r moment word kind victim; do
    [[ -n $moment ]] || continue
    while (($(milliseconds) < begin + moment)); do sleep 0.02; done
    [[ $word == end ]] || ! is_over "$id" || {
      late=$((late + 1))
      continue
    }
    [[ $word == end && -z ${begun[$kind$victim]:-} ]] && continue
    begun[$kind$victim]=$([[ $word == begin ]] && echo yes)
    printf '  %6d ms  %-5s %-12s %s\n' $(($(milliseconds) - begin)) "$word" "$kind" "${victim/#0/}"
    "${word}_$kind" "$victim"
    note_all_memory
  done <<< "${2:-}"
  check "the job ends by itself" wait_until 240 is_over "$id"
  seconds_taken=$((($(milliseconds) - begin) / 1000))
  rm -f "$work/watch"
  wait "${pid_of[watch]}"
  unset "pid_of[watch]"
  note_all_memory
}
declare -A begun=()

# check_ledger EPOCHS: the job is done and counted each sample once, says its status and says its record.
check_ledger() {
  local record=$work/data/jobs/$id/run.json samples=$(($1 * train_samples))
  check "it is done: $(field "$id" reason)" state_is "$id" "done"
  check "each sample of each epoch counts once: $(field "$id" samples)" test "$(field "$id" samples)" = "$samples"
  check "run.json has all samples" test "$(jq .samples "$record")" = "$samples"
  check "run.json has each epoch's samples" test \
    "$(jq -c '.epochs | map(.samples) | unique' "$record") $(jq '.epochs | length' "$record")" = "[$train_samples] $1"
  check "every epoch is evaluated" test "$(jq '.epochs | map(select(.accuracy == null)) | length' "$record")" = 0
  check "the model is there" test -s "$work/data/jobs/$id/model.safetensors"
}

# our_processes: daemons of this run that live, by their command lines.
our_processes() { grep -lazF "$work/" /proc/[0-9]*/cmdline 2> /dev/null | cut -d/ -f3 | xargs -r ps -o pid=,stat=,args= -p | grep -F nanduti-; }
no_processes() { [[ -z $(our_processes) ]]; }

# ---- the scenario ----

make_data "$train_samples" "$test_samples"
for ((number = 1; number <= workers; number++)); do connect_place "$number"; done
$links || echo "no network namespaces here: links are not cut"
SERVER_LINES="${SERVER_LINES:-}
membership: {suspend_after: $suspend_after ms, dead_after: $dead_after ms, lease_timeout: 10 s}"
longest=0
for seed in "${seeds[@]}"; do
  plan "$seed"
  ((plan_end <= longest)) || longest=$plan_end
done

start_server server
each_worker start_place

# So many epochs that a job outlasts the plan; by how fast it is here. Disturbances make it slower where links set the
# pace and workers wait for each other; else those who are left may be as fast as all were.
lasting=$($links && [[ $bound != none ]] && echo 0.8 || echo 1.2)
STALENESS="{bound: $bound, local_steps: 1}" BATCH=$batch job_file trial 1 "$workers"
run_job "$work/trial.yaml"
check_ledger 1
epochs=$(jq -n "($longest / 1000 * $lasting + 2) / $(field "$id" training_seconds) | ceil | if . < 4 then 4 else . end")
echo "an epoch takes $(field "$id" training_seconds) s: jobs have $epochs epochs; the longest plan takes $longest ms"

accuracies=()
# job_of SEED: $work/job.yaml. The rate falls to zero, so that the accuracy of one job is not that of its last rounds.
job_of() {
  STALENESS="{bound: $bound, local_steps: 1}" BATCH=$batch job_file job "$epochs" "$workers" "seed: $1" 'schedule: cosine'
}
for ((reference = 1; reference <= references; reference++)); do
  job_of "$((1000 + reference))"
  run_job "$work/job.yaml"
  check_ledger "$epochs"
  check "nothing is trained twice" test "$(field "$id" repeated_samples)" = 0
  accuracies+=("$(field "$id" accuracy)")
  echo "undisturbed: accuracy ${accuracies[-1]}, $seconds_taken s, peak memory server ${peak_of[server]} KiB, worker ${peak_of[w]} KiB"
done
check "operators are answered" test ! -e "$work/unanswered"
# The spread of undisturbed jobs is no less than two standard errors of the test set.
floor=$(printf '%s\n' "${accuracies[@]}" | jq -s "min as \$least | max as \$most | (\$least * (1 - \$least) / $test_samples | sqrt * 2) as \$error |
  \$least - ([\$most - \$least, \$error] | max) | . * 10000 | round / 10000")
# A disturbed process may need this many times an undisturbed one's memory; a worker, besides, a whole window of pushes
# (one that is suspended goes on, and nobody acknowledges what it sends); a server, besides, for each shard what a
# worker that does not listen may be sent (ShardOptions::subscriber_bytes_max), for as many as there are workers.
worker_memory_max=$((memory_factor * peak_of[w] + window_rounds * parameters * 4 / 1024))
server_memory_max=$((memory_factor * peak_of[server] + workers * shards * 32 * 1024))

for seed in "${seeds[@]}"; do
  echo "seed $seed, $wanted disturbances:"
  plan "$seed"
  peak_of=()
  job_of 1
  gone=$(grep -c -e 'dead to us' -e 'begins a new life' "$work/server.log")
  run_job "$work/job.yaml" "$plan"
  gone=$(($(grep -c -e 'dead to us' -e 'begins a new life' "$work/server.log") - gone))
  check "the job lasts until all disturbances have come, but for $late" test "$late" = 0
  check_ledger "$epochs"
  repeated=$(field "$id" repeated_samples)
  accuracy=$(field "$id" accuracy)
  check "no more is trained twice than the dead had under way: $repeated, $gone dead" \
    test "$repeated" -le $((gone * window_rounds * batch))
  check "accuracy $accuracy is at least $floor" test "$(jq -n "$accuracy >= $floor")" = true
  check "the server's peak memory, ${peak_of[server]} KiB, is at most $server_memory_max KiB" \
    test "${peak_of[server]}" -le "$server_memory_max"
  check "the workers' peak memory, ${peak_of[w]} KiB, is at most $worker_memory_max KiB" \
    test "${peak_of[w]}" -le "$worker_memory_max"
  check "operators are answered: $(cat "$work/unanswered" 2> /dev/null)" test ! -e "$work/unanswered"
  for ((number = 1; number <= workers; number++)); do check "w$number lives" is_running "w$number"; done
  check "the server lives" is_running server
  echo "seed $seed: accuracy $accuracy (undisturbed ${accuracies[*]}, at least $floor), $seconds_taken s, $gone dead," \
    "$repeated of $((epochs * train_samples)) samples repeated, peak memory server ${peak_of[server]} KiB, worker" \
    "${peak_of[w]} KiB, $(wc -l < "$work/answered") questions answered"
  cp "$work/data/jobs/$id/run.json" "$work/run-$seed.json" 2> /dev/null
done

for ((number = 1; number <= workers; number++)); do
  stop "w$number"
  check "w$number ends with status 0, not $stop_status" test "$stop_status" = 0
done
stop server
check "the server ends with status 0, not $stop_status" test "$stop_status" = 0
check "no process is left: $(our_processes)" no_processes
check "the logs have no failed check and no report of a sanitizer" \
  test -z "$(grep -hE 'Sanitizer|runtime error:|CHECK|check failed|terminate called' "$work"/*.log)"
if [[ -n ${CHAOS_KEEP:-} ]]; then
  mkdir -p "$CHAOS_KEEP" && cp "$work"/*.log "$work"/run-*.json "$CHAOS_KEEP" 2> /dev/null
fi
finish
