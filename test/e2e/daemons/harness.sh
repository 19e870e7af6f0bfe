# shellcheck shell=bash
# shellcheck disable=SC2034 # stop_status, id: for the scenarios
# Starts real daemons on loopback for one scenario and looks after them. Wants BIN, the folder of the programs.
# Everything happens below a folder of its own; a scenario that fails prints the logs.
set -uo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
work=$(mktemp -d)
declare -A pid_of=()
checks=0
failures=0

# shellcheck disable=SC2317 # called by trap
clean_up() {
  local name
  if ((failures > 0)); then
    for name in "$work"/*.log; do
      echo "== $name"
      tail -n 40 "$name"
    done
  fi
  for name in "${!pid_of[@]}"; do kill -KILL "${pid_of[$name]}" 2> /dev/null; done
  wait 2> /dev/null
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

fail() {
  failures=$((failures + 1))
  echo "FAILED: $*"
}
check() {
  local what=$1
  shift
  checks=$((checks + 1))
  "$@" || fail "$what"
}
# wait_until SECONDS COMMAND...: whether the command has succeeded by then.
wait_until() {
  local end=$((SECONDS + $1))
  shift
  until "$@" > /dev/null 2>&1; do
    ((SECONDS < end)) || return 1
    sleep 0.1
  done
}
finish() {
  echo "$checks checks, $failures failures"
  exit $((failures > 0))
}

log_has() { grep -qE -- "$2" "$work/$1.log"; }
is_running() { kill -0 "${pid_of[$1]}" 2> /dev/null; }
has_ended() { ! is_running "$1"; }

# launch NAME PROGRAM CONFIG: its log is $work/NAME.log. INSIDE, a command that runs a program in another place, may
# stand before it.
INSIDE=()
launch() {
  "${INSIDE[@]}" "$BIN/$2" --config "$3" >> "$work/$1.log" 2>&1 &
  pid_of[$1]=$!
}

# start_server NAME [DATA_PORT HTTP_PORT]: ports are any that are free unless given. Sets data_endpoint and
# NANDUTI_SERVER. SERVER_LINES may hold more YAML, DATA_HOST the address where workers reach it.
start_server() {
  local name=$1 data=${2:-0} http=${3:-0}
  cat > "$work/$name.yaml" << END
name: $name
roles: {coordinator: true, shards: 2}
listen: {data: "tcp://${DATA_HOST:-127.0.0.1}:$data", http: "127.0.0.1:$http"}
storage: {directory: '$work/data'}
${SERVER_LINES:-}
END
  launch "$name" nanduti-server "$work/$name.yaml"
  wait_until 20 log_has "$name" 'jobs at http' || {
    fail "the server starts"
    finish
  }
  local ready
  ready=$(grep ' jobs at http' "$work/$name.log" | tail -1)
  data_endpoint=$(grep -oE 'tcp://[^ ,]+' <<< "$ready")
  NANDUTI_SERVER=$(grep -oE 'http://[^ ,]+' <<< "$ready")
  export NANDUTI_SERVER
}

# start_coordinator DATA_PORT HTTP_PORT: one without shards. 0: any port that is free.
start_coordinator() {
  cat > "$work/coordinator.yaml" << END
name: coordinator
roles: {coordinator: true, shards: 0}
listen: {data: "tcp://127.0.0.1:$1", http: "127.0.0.1:$2"}
storage: {directory: '$work/data'}
membership: ${MEMBERSHIP:-{suspend_after: 2 s, dead_after: 5 s, shard_timeout: 15 s\}}
END
  launch coordinator nanduti-server "$work/coordinator.yaml"
  check "the coordinator starts" wait_until 10 log_has coordinator 'jobs at http'
  data_endpoint=$(grep -oE 'tcp://[^ ,]+' "$work/coordinator.log" | head -1)
  NANDUTI_SERVER=$(grep -oE 'http://[^ ,]+' "$work/coordinator.log" | head -1)
  export NANDUTI_SERVER
}
# start_shards NAME COUNT: shards on a server of their own; again, at the same address and with the same storage.
start_shards() {
  local port
  port=$(grep -oE 'shards at tcp://127.0.0.1:[0-9]+' "$work/$1.log" 2> /dev/null | tail -1 | grep -oE '[0-9]+$')
  cat > "$work/$1.yaml" << END
name: $1
roles: {coordinator: false, shards: $2}
coordinator: $data_endpoint
listen: {data: "tcp://127.0.0.1:${port:-0}"}
storage: {directory: '$work/$1-data'}
END
  launch "$1" nanduti-server "$work/$1.yaml"
}

# start_worker NAME [COORDINATOR]: WORKER_LINES may hold more YAML. On the CPU, unless that names a device.
start_worker() {
  local device='device: cpu'
  [[ ${WORKER_LINES:-} != *device:* ]] || device=
  cat > "$work/$1.yaml" << END
name: $1
coordinator: ${2:-$data_endpoint}
data_roots: ['$work']
$device
${WORKER_LINES:-}
END
  launch "$1" nanduti-worker "$work/$1.yaml"
}
# stop NAME [SIGNAL]: sets stop_status to its exit status.
stop() {
  kill -"${2:-TERM}" "${pid_of[$1]}" 2> /dev/null
  wait "${pid_of[$1]}" 2> /dev/null
  stop_status=$?
  unset "pid_of[$1]"
}

# submit FILE: sets id.
submit() { id=$("$top/scripts/submit_job.sh" "$1"); }
status_json() { "$top/scripts/job.sh" status "$1" --json; }
# field ID NAME
field() { status_json "$1" | jq -r ".$2"; }
state_is() { [[ $(field "$1" state) == "$2" ]]; }
is_over() { [[ $(field "$1" state) =~ ^(done|failed|cancelled)$ ]]; }
samples_above() { (($(field "$1" samples) > $2)); }

# be32 NUMBER: its four bytes, the highest first.
be32() {
  local hex
  printf -v hex '%08x' "$1"
  printf '%b' "\\x${hex:0:2}\\x${hex:2:2}\\x${hex:4:2}\\x${hex:6:2}"
}

# cut_images FROM COUNT TO, cut_labels FROM COUNT TO: the first COUNT of a Fashion-MNIST file, as plain IDX.
fashion=/usr/share/datasets/fashion-mnist
cut_images() {
  {
    printf '\0\0\10\3' && be32 "$2" && be32 28 && be32 28
    gzip -dc "$fashion/$1-images-idx3-ubyte.gz" | tail -c +17 | head -c $(($2 * 784))
  } > "$3" 2> /dev/null
}
cut_labels() {
  {
    printf '\0\0\10\1' && be32 "$2"
    gzip -dc "$fashion/$1-labels-idx1-ubyte.gz" | tail -c +9 | head -c "$2"
  } > "$3" 2> /dev/null
}
# make_data TRAIN TEST: $work/{train,test}-{images,labels} with so many samples.
make_data() {
  cut_images train "$1" "$work/train-images"
  cut_labels train "$1" "$work/train-labels"
  cut_images t10k "$2" "$work/test-images"
  cut_labels t10k "$2" "$work/test-labels"
}
# job_file NAME EPOCHS WORKERS [MORE TRAINING KEYS...]: writes $work/NAME.yaml; MODEL, STALENESS and BATCH change it.
job_file() {
  local name=$1 epochs=$2 count=$3
  shift 3
  {
    cat << END
name: $name
model: {preset: ${MODEL:-mlp}}
data:
  format: idx
  train: {images: train-images, labels: train-labels}
  test: {images: test-images, labels: test-labels}
staleness: ${STALENESS:-"{bound: 0, local_steps: 1}"}
training:
  workers: $count
  batch_size: ${BATCH:-32}
  epochs: $epochs
  optimizer: {type: momentum, learning_rate: 0.02, momentum: 0.9}
END
    printf '  %s\n' "$@"
  } > "$work/$name.yaml"
}
