#!/usr/bin/env bash
# From a bare machine to a trained model: installs, builds, starts a server and workers on loopback, runs one job.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/http.sh
source "$top/scripts/lib/http.sh"
# shellcheck source=scripts/lib/follow.sh
source "$top/scripts/lib/follow.sh"

usage() {
  cat << 'END'
usage: scripts/quickstart.sh [JOB.yaml] [--workers N] [--keep]
Installs what is missing (Debian, apt), builds, starts one server with two shards and the workers on this machine,
submits the job (default: configs/jobs/fashion_lenet.yaml), shows its progress on stderr and stops what it started.
The last line on stdout is "accuracy=0.9012 model=PATH run=PATH".
Exit status: 0 target met or none, 1 target missed or not started, 2 the job failed, 3 it was cancelled.

  --workers N  how many workers (default: 2, or as many as the job waits for)
  --keep       leave server and workers running
END
}

job=$top/configs/jobs/fashion_lenet.yaml
workers=
keep=false
given=false
while (($# > 0)); do
  case $1 in
    -h | --help)
      usage
      exit 0
      ;;
    --workers)
      workers=$(value_of "$@")
      need_number --workers "$workers"
      shift
      ;;
    --keep) keep=true ;;
    -*) usage_error "unknown option '$1'" ;;
    *)
      $given && usage_error "one job at a time"
      given=true
      job=$1
      ;;
  esac
  shift
done
[[ -f $job && -r $job ]] || die "cannot read the job's file $job"

# job_values KEY...: the values of these keys anywhere in the job, in block or flow style, without quotes.
job_values() {
  local keys
  keys=$(IFS='|' && echo "$*")
  { sed -E 's/(^|[[:space:]])#.*//' "$job" | grep -oE "(^|[^A-Za-z_])($keys):[[:space:]]*(\"[^\"]*\"|'[^']*'|[^,}]+)" || true; } |
    sed -E "s/^[^:]*:[[:space:]]*//; s/[[:space:]]*\$//; s/^[\"']//; s/[\"']\$//"
}

wanted=$(job_values workers | grep -xE '[0-9]+' | head -1 || true)
wanted=${wanted:-1}
if [[ -z $workers ]]; then
  workers=$((wanted > 2 ? wanted : 2))
elif ((workers < wanted)); then
  die "the job waits for $wanted workers (training.workers), so --workers $workers would never start it"
fi

"$top/scripts/bootstrap.sh" >&2
need_tools curl jq awk
note "building"
"$top/scripts/build.sh" release nanduti-server nanduti-worker >&2

bin=$top/build/release/bin
folder=$top/build/quickstart
pids=()
names=()

# stop_all: the server first. It ends a job that still runs, so that the workers have nothing left to deliver.
# shellcheck disable=SC2317 # called by trap
stop_all() {
  local pid deadline=$((SECONDS + 15))
  for pid in "${pids[@]}"; do
    kill -TERM "$pid" 2> /dev/null || continue
    [[ $pid == "${pids[0]}" ]] || continue
    while kill -0 "$pid" 2> /dev/null && ((SECONDS < deadline)); do sleep 0.1; done
  done
  for pid in "${pids[@]}"; do
    while kill -0 "$pid" 2> /dev/null && ((SECONDS < deadline)); do sleep 0.1; done
    kill -KILL "$pid" 2> /dev/null || true
  done
  pids=()
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME PROGRAM CONFIG
start() {
  "$bin/$2" --config "$3" > "$folder/$1.log" 2>&1 &
  pids+=($!)
  names+=("$1")
}

# Called while the job is followed: daemons that end are an error.
follow_check() {
  local i
  for i in "${!pids[@]}"; do
    kill -0 "${pids[i]}" 2> /dev/null && continue
    follow_close_line
    tail -n 3 "$folder/${names[i]}.log" >&2
    die "${names[i]} has ended; its log is $folder/${names[i]}.log"
  done
}

port_is_free() { ! (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

# Workers that wait for a server at the usual port are not its own. Beside another quickstart (--keep) it has a folder of its own.
http_port=7080
if ! port_is_free $http_port; then
  note "another program listens on port $http_port: taking a free one"
  http_port=0
  folder+=-$$
fi
mkdir -p "$folder"
# as_replacement TEXT: as it has to stand in the replacement of sed's s#...#...#.
as_replacement() { printf '%s' "$1" | sed 's/[&#\\]/\\&/g'; }
quoted_folder=$(as_replacement "${folder//\'/\'\'}")
sed -E "s#tcp://127\.0\.0\.1:7070#tcp://127.0.0.1:0#; s#127\.0\.0\.1:7080#127.0.0.1:$http_port#
  s#directory: [^}]*#directory: '$quoted_folder/data'#" "$top/configs/server.yaml" > "$folder/server.yaml"
start server nanduti-server "$folder/server.yaml"
ready=
for ((i = 0; i < 100; i++)); do
  follow_check
  ready=$(grep -sm1 ' jobs at http' "$folder/server.log" || true)
  [[ -n $ready ]] && break
  sleep 0.1
done
[[ -n $ready ]] || die "the server does not start; its log is $folder/server.log"
data_endpoint=$(grep -oE 'tcp://[^ ,]+' <<< "$ready")
set_server "$(grep -oE 'http://[^ ,]+' <<< "$ready")"

# The job's own folders are open to its workers, beside those of configs/worker.yaml.
roots=
while read -r root; do
  [[ -d $root ]] && roots+=", '${root//\'/\'\'}'"
done < <(job_values images labels | { grep '^/' || true; } | xargs -r -d '\n' -n 1 dirname | sort -u)
quoted_roots=$(as_replacement "$roots")
for ((i = 1; i <= workers; i++)); do
  sed -E "s#^name: .*#name: worker-$i#; s#tcp://127\.0\.0\.1:7070#$data_endpoint#
    s#^data_roots: \[([^]]*)\]#data_roots: [\1$quoted_roots]#" "$top/configs/worker.yaml" > "$folder/worker-$i.yaml"
  start "worker-$i" nanduti-worker "$folder/worker-$i.yaml"
done

note "server at $server with $workers workers; logs in $folder"
post_job "$job" || exit 1
id=$(jq -er .id <<< "$http_body")
note "job $id: $job"
status=0
follow_job "$id" >&2 || status=$?

job_api GET "$id"
if $keep; then
  note "still running, at $server: stop them with: kill ${pids[*]}"
  pids=()
fi
jq -r '"accuracy=\(.accuracy // "-" | if type == "number" then (. * 10000 | round / 10000) else . end) " +
  "model=\(.model // "-") run=\(.run // "-")"' <<< "$http_body"
exit "$status"
