#!/usr/bin/env bash
# A WAN on one machine: a server's side and the workers' side, and a link with delay, jitter, loss and a rate between.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/wan.sh
source "$top/scripts/lib/wan.sh"

usage() {
  cat << 'END'
usage: scripts/wan_lab.sh run PROFILE JOB.yaml [--workers N] [--bound N|none|auto] [--seed N] [--workers-apart] [--json]
                              [--keep FOLDER]
       scripts/wan_lab.sh up PROFILE [--seed N]
       scripts/wan_lab.sh set PROFILE | blackout SECONDS [up|down] | status | down [--all]
       scripts/wan_lab.sh prove [PROFILE...] [--seconds S] [--json]
  run       starts a server on one side and workers on the other, runs the job, prints a summary and takes all down,
            also when interrupted. Exit status: 0 target met or none, 1 missed, 2 failed, 3 cancelled
  up        makes a lab and leaves it there, for programs of your own
  set       changes the link while it is used: inline values change what they name, a file changes all
  blackout  nothing comes through for so long, both ways or one; 0 ends it
  status    what the link is and has done, as JSON
  down      ends a lab and all that runs in it; --all: every lab, stale ones too
  prove     measures what ping and TCP (cubic, bbr) get against what the profiles ask for

  PROFILE        a name in configs/wan (lan: no delay), a file, or "rtt=180,jitter=10,rate=100,loss=1,cc=bbr": ms of the
                 round trip, Mbit/s and % each way (test/wan/README.md has all keys)
  --lab NAME     which lab (default: lab; for run one of its own; prove always has), so that several can be there
  --workers N    workers to start, and the job's training.workers (default: as many as the job waits for)
  --bound N      the job's staleness.bound
  --seed N       the job's training.seed, and the seed of the link's randomness (default: 1)
  --workers-apart  workers have all CPUs but the first, which the server and the link share: what the link costs the CPU
                 takes nothing from their computing
  --keep FOLDER  leaves logs, configs, records and the model there
  --seconds S    for each measurement (default: 10)
  --json         stdout is one JSON object
Exit status 77: this machine cannot have a lab (root and TUN devices are needed), and why. BIN names a folder of programs
that are built already.
END
}

command=
words=()
lab_name=
workers=
bound=
seed=1
seconds=10
json=false
all=false
keep=
job_changes=()
while (($# > 0)); do
  case $1 in
    -h | --help)
      usage
      exit 0
      ;;
    --json) json=true ;;
    --workers-apart) keep_workers_apart ;;
    --all) all=true ;;
    --lab | --keep)
      value=$(value_of "$@")
      if [[ $1 == --lab ]]; then lab_name=$value; else keep=$value; fi
      shift
      ;;
    --workers | --seed | --seconds)
      value=$(value_of "$@")
      need_number "$1" "$value"
      declare "${1#--}=$value"
      [[ $1 != --workers ]] || job_changes+=("training.workers=$value")
      [[ $1 != --seed ]] || job_changes+=("training.seed=$value")
      shift
      ;;
    --bound)
      bound=$(value_of "$@")
      [[ $bound == none || $bound == auto ]] || need_number --bound "$bound"
      job_changes+=("staleness.bound=$bound")
      shift
      ;;
    -*) usage_error "unknown option '$1'" ;;
    *) if [[ -z $command ]]; then command=$1; else words+=("$1"); fi ;;
  esac
  shift
done

# want LEAST MOST: how many words the command takes.
want() {
  ((${#words[@]} >= $1 && ${#words[@]} <= $2)) || usage_error "$command takes other arguments"
}

# ---- run ----

pids=()
names=()
folder=
follow_pid=

# start NAME in_SIDE_place PROGRAM: its config is $folder/NAME.yaml.
start() {
  "$2" "$bin/$3" --config "$folder/$1.yaml" > "$folder/$1.log" 2>&1 &
  pids+=($!)
  names+=("$1")
}

check_daemons() {
  local i
  for i in "${!pids[@]}"; do
    kill -0 "${pids[i]}" 2> /dev/null && continue
    tail -n 3 "$folder/${names[i]}.log" >&2
    die "${names[i]} has ended"
  done
  kill -0 "$(cat "$labs_folder/$lab/link.pid")" 2> /dev/null || die "the link has ended"
}

# stop_daemons: the server first. It ends a job that still runs, so that the workers have nothing left to deliver.
stop_daemons() {
  local pid end=$((SECONDS + 10))
  for pid in "${pids[@]}"; do
    kill -TERM "$pid" 2> /dev/null || continue
    [[ $pid == "${pids[0]}" ]] || continue
    while kill -0 "$pid" 2> /dev/null && ((SECONDS < end)); do sleep 0.1; done
  done
  for pid in "${pids[@]}"; do
    while kill -0 "$pid" 2> /dev/null && ((SECONDS < end)); do sleep 0.1; done
    kill -KILL "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
  done
  pids=()
}

# shellcheck disable=SC2317 # called by trap
clean_up() {
  trap '' INT TERM
  [[ -z $follow_pid ]] || kill -TERM "$follow_pid" 2> /dev/null || true
  if [[ -n $folder ]]; then
    [[ -e $folder/link.json ]] || ask_link status > "$folder/link.json" 2> /dev/null || true
    stop_daemons
  fi
  end_own_lab
  [[ -n $folder ]] || return 0
  if [[ -n $keep ]]; then
    mkdir -p "$keep" && cp -r "$folder/." "$keep" && logs_matter=false
  fi
  if $logs_matter; then note "logs, configs and records are left in $folder"; else rm -rf "$folder"; fi
}
# The run did not end as it should: somebody will want to know why.
logs_matter=true

# take_lab: a lab of this command's own, which ends with it.
take_lab() {
  set_lab "${lab_name:-$command-$$}"
  trap clean_up EXIT
  trap 'logs_matter=false; exit 130' INT
  trap 'logs_matter=false; exit 143' TERM
}

# write_configs [CONTROL]: the sample configs with the lab's addresses, and with this congestion control; without one the
# daemons choose.
write_configs() {
  local roots i own="security: none"
  [[ -z ${1:-} ]] || own+="\\ntransport: {congestion_control: $1}"
  sed -E "s#^( *data:) *[^ ]*#\1 tcp://$server_address:7070#; s#directory: [^}]*#directory: '$folder/data'#
    \$a $own" "$top/configs/server.yaml" > "$folder/server.yaml"
  # The job's own folders are open to its workers, beside those of configs/worker.yaml.
  roots=$(jq -r '.data | .. | strings | select(startswith("/")) | sub("/[^/]*$"; "") | gsub("\u0027"; "\u0027\u0027")' \
    "$folder/job.yaml" | sort -u | sed "s/.*/, '&'/" | tr -d '\n' | sed 's/[&#\\]/\\&/g')
  # They compute on the CPU, wherever the lab is: figures of labs are to be compared.
  for ((i = 1; i <= workers; i++)); do
    sed -E "s#^name: .*#name: worker-$i#; s#^device: .*#device: cpu#; s#tcp://127\.0\.0\.1:7070#tcp://$server_address:7070#
      s#^data_roots: \[([^]]*)\]#data_roots: [\1$roots]#
      \$a $own" "$top/configs/worker.yaml" > "$folder/worker-$i.yaml"
  done
}

# summary: the interface that others rely on. What the daemons do not say (yet) is null.
# shellcheck disable=SC2016 # jq variables
summary='
  ($run[0] // {}) as $run
  | ([$run.tunings[]? | select(.in_force)][-1]) as $in_force
  | {
      utilisation: $run.pipeline.utilisation,
      utilisation_min: $run.pipeline.utilisation_min,
      samples_per_s: (($run | pure_training_seconds) as $seconds | if $seconds > 0 then $run.samples / $seconds else null end),
      stall_seconds: {gate: $run.pipeline.stall_gate_seconds, codec: $run.pipeline.stall_codec_seconds,
                      data: $run.pipeline.stall_data_seconds, merge: $run.pipeline.stall_merge_seconds,
                      window: $run.pipeline.stall_window_seconds},
      accuracy: $run.accuracy,
      seconds_to_target: ($run | seconds_to_target),
      evaluations: ($run | evaluations | length),
      evaluations_skipped: $run.evaluations_skipped,
      bytes_up: $run.bytes_up,
      bytes_down: $run.bytes_down,
      exact_bytes_up: $run.pipeline.exact_bytes_up,
      exact_bytes_down: $run.pipeline.exact_bytes_down,
      bound: (if $in_force then $in_force.bound // "none" else $job[0].staleness.bound end),
      local_steps: (if $in_force then $in_force.local_steps else $job[0].staleness.local_steps end),
      age_p50: $run.pipeline.age_p50,
      age_p99: $run.pipeline.age_p99,
      turnaround_p50_s: $run.pipeline.turnaround_p50_s,
      turnaround_p99_s: $run.pipeline.turnaround_p99_s,
      congestion_control: (
        ($controls | split("\n") | map(select(. != ""))) as $seen
        | ($seen | map(split(" ")[1]) | unique) as $names
        | if ($names | length) == 0 then null elif ($names | length) == 1 then $names[0] else ($seen | join(", ")) end),
      state: $status.state,
      reason: $status.reason,
      target: $run.target,
      samples: $run.samples,
      repeated_samples: $run.repeated_samples,
      training_seconds: $run.training_seconds,
      start_seconds: $run.pipeline.start_seconds,
      workers: $workers,
      profile: $profile,
      link: {up: $link.up, down: $link.down, late_ms_mean: $link.late_ms_mean, late_ms_max: $link.late_ms_max,
             cpu_fraction: ($link.cpu_seconds / $link.seconds)}
    }'

run() {
  local id changed status=0 record controls=
  want 2 2
  local profile=${words[0]} job=${words[1]}
  [[ -f $job && -r $job ]] || die "cannot read the job's file $job"
  need_lab_rights
  need_tools jq curl ss
  build_programs nanduti_wan nanduti-server nanduti-worker
  profile=$(profile_file_or_inline "$profile")
  "$wan" profile "$profile" > /dev/null || exit 1
  changed=$("$wan" job "$job" ${job_changes[@]:+"${job_changes[@]}"}) || exit 1
  take_lab
  workers=${workers:-$(jq '.training.workers // 1' <<< "$changed")}
  lab_up "$profile" "$seed"
  folder=$(mktemp -d)
  echo "$changed" > "$folder/job.yaml"
  # Written out by the user, it is what the daemons are to use as well.
  write_configs "$([[ ${words[0]} != *=* ]] || sed -nE 's/^(.*,)?cc=([^,]*)(,.*)?$/\2/p' <<< "${words[0]}")"
  export NANDUTI_SERVER=http://127.0.0.1:7080
  start server in_server_place nanduti-server
  for ((i = 0; i < 100; i++)); do
    check_daemons
    ! grep -qs ' jobs at http' "$folder/server.log" || break
    sleep 0.1
  done
  grep -qs ' jobs at http' "$folder/server.log" || die "the server does not start"
  for ((i = 1; i <= workers; i++)); do start "worker-$i" in_workers_place nanduti-worker; done
  note "lab $lab: ${words[0]}, $workers workers"
  id=$(in_server_place "$top/scripts/submit_job.sh" "$folder/job.yaml") || exit 1
  in_server_place "$top/scripts/job.sh" follow "$id" >&2 &
  follow_pid=$!
  while kill -0 "$follow_pid" 2> /dev/null; do
    check_daemons
    controls=$(sort -u <<< "$controls"$'\n'"$(congestion_controls)")
    sleep 0.5
  done
  wait "$follow_pid" || status=$?
  follow_pid=
  in_server_place "$top/scripts/job.sh" status "$id" --json > "$folder/status.json"
  ask_link status > "$folder/link.json"
  record=$(jq -r '.run // empty' "$folder/status.json")
  stop_daemons
  [[ -z $record || ! -r $record ]] || cp "$record" "$folder/run.json"
  touch "$folder/run.json"
  jq -n -L "$top/scripts/lib" --slurpfile run "$folder/run.json" --slurpfile job "$folder/job.yaml" --slurpfile status "$folder/status.json" \
    --slurpfile link "$folder/link.json" --arg controls "$controls" --argjson workers "$workers" \
    --arg profile "${words[0]}" "include \"run_summary\"; \$status[0] as \$status | \$link[0] as \$link | $summary" > "$folder/summary.json"
  if $json; then cat "$folder/summary.json"; else show_summary < "$folder/summary.json"; fi
  ((status > 1)) || logs_matter=false
  exit "$status"
}

show_summary() {
  jq -r '
    def shown: if . == null then "-" elif type == "number" then . * 10000 | round / 10000 else . end;
    (.link | "link, \(.up | "up: \(.packets_in) packets, \(.dropped_loss) lost, \(.dropped_queue) dropped by the queue"); " +
      (.down | "down: \(.packets_in), \(.dropped_loss), \(.dropped_queue)")) as $link
    | (del(.link) | paths(type != "object") as $path | "\($path | join(".")): \(getpath($path) | shown)"), $link'
}

# ---- the other commands ----

case $command in
  run) run ;;
  up)
    want 1 1
    need_lab_rights
    need_tools jq
    build_programs nanduti_wan
    set_lab "${lab_name:-lab}"
    profile=$(profile_file_or_inline "${words[0]}")
    trap end_own_lab EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    lab_up "$profile" "$seed"
    trap - EXIT
    echo "the server's side, $server_address: ip netns exec $server_place COMMAND"
    echo "the workers' side, $workers_address: ip netns exec $workers_place COMMAND"
    ;;
  set)
    want 1 1
    set_lab "${lab_name:-lab}"
    need_lab
    profile=$(profile_file_or_inline "${words[0]}")
    answer=$(ask_link set "$profile")
    lab_routes "$(jq -r .congestion_control <<< "$answer")"
    echo "$answer"
    ;;
  blackout | status)
    want 0 2
    set_lab "${lab_name:-lab}"
    need_lab
    ask_link "$command" ${words[@]:+"${words[@]}"}
    ;;
  down)
    want 0 0
    need_lab_rights
    if $all; then
      for name in $(lab_names); do
        set_lab "$name"
        lab_down
      done
    else
      set_lab "${lab_name:-lab}"
      lab_down
    fi
    ;;
  prove)
    if $json; then words+=(--json); fi
    exec "$top/test/wan/prove_lab.sh" --seconds "$seconds" ${words[@]:+"${words[@]}"}
    ;;
  "") usage_error "which command?" ;;
  *) usage_error "unknown command '$command'" ;;
esac
