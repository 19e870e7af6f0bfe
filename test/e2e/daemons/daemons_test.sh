#!/usr/bin/env bash
# Goal: server and worker daemons train whole jobs and survive what operators and machines do to them.
# Method: real processes on loopback, one scenario a run. Usage: BIN=FOLDER daemons_test.sh SCENARIO
# shellcheck disable=SC2317 # scenarios are called by name
# shellcheck source=test/e2e/daemons/harness.sh
source "$(dirname "$0")/harness.sh"
: "${BIN:?the folder of nanduti-server and nanduti-worker}"

# A worker is killed in mid-epoch, a third one joins, one drains: the job ends, each sample counts once.
workers_come_and_go() {
  make_data 6000 500
  job_file churn 6 2
  # As from a shell that allows few open files.
  INSIDE=(bash -c 'ulimit -Sn 256 && exec "$@"' --)
  SERVER_LINES='membership: {suspend_after: 2 s, dead_after: 4 s}' start_server server
  INSIDE=()
  check "the server has helped itself to more files" log_has server "open files: up to $(ulimit -Hn) instead of 256"
  check "in fact" test "$(awk '/Max open files/ {print $4}' "/proc/${pid_of[server]}/limits")" = "$(ulimit -Hn)"
  start_worker w1
  start_worker w2
  submit "$work/churn.yaml"
  check "training begins" wait_until 30 samples_above "$id" 3000
  stop w2 KILL
  start_worker w3
  check "it goes on without the dead one" wait_until 60 samples_above "$id" 12000
  stop w1 TERM
  check "a worker that drains in mid-job ends with status 0" test "$stop_status" = 0
  check "the worker says that it has left" log_has w1 'the worker has left'
  start_worker w4
  check "the job ends by itself" wait_until 300 is_over "$id"
  check "it is done" state_is "$id" "done"
  check "each sample of each epoch counts once" test "$(field "$id" samples)" = 36000
  check "the ledger has all epochs" test "$(field "$id" 'figures | length')" = 6
  check "it has learnt" test "$(jq -n "$(field "$id" accuracy) > 0.6")" = true
  check "the model is there" test -s "$work/data/jobs/$id/model.safetensors"
  check "checkpoints are there" test -s "$work/data/jobs/$id/checkpoints/epoch-0006.safetensors"
  check "run.json says so" test "$(jq -r .state "$work/data/jobs/$id/run.json")" = "done"
  check "run.json names all who took part, the killed one too" test \
    "$(jq -r '.workers | map(.name) | sort | join(" ")' "$work/data/jobs/$id/run.json")" = "w1 w2 w3 w4"
  check "run.json has each epoch's samples" test \
    "$(jq -r '.epochs | map(.samples) | join(" ")' "$work/data/jobs/$id/run.json")" = "6000 6000 6000 6000 6000 6000"
}

# The same deterministic job twice, the second time beside something that keeps both cores busy: the same bytes.
deterministic_jobs_repeat() {
  make_data 3000 300
  MODEL=lenet STALENESS='{bound: 1, local_steps: 2}' job_file twin 2 2 'deterministic: true' 'schedule: cosine'
  start_server server
  start_worker w1
  start_worker w2
  submit "$work/twin.yaml"
  local first=$id
  check "the first ends" wait_until 200 is_over "$first"
  (while :; do :; done) &
  pid_of[noise-1]=$!
  (while :; do :; done) &
  pid_of[noise-2]=$!
  submit "$work/twin.yaml"
  check "the second ends" wait_until 300 is_over "$id"
  kill "${pid_of[noise-1]}" "${pid_of[noise-2]}"
  check "both are done" test "$(field "$first" state) $(field "$id" state)" = "done done"
  check "the models are the same bytes" cmp "$work/data/jobs/$first/model.safetensors" \
    "$work/data/jobs/$id/model.safetensors"
  sed 's/epochs: 2/epochs: 2\n  seed: 2/' "$work/twin.yaml" > "$work/other.yaml"
  submit "$work/other.yaml"
  check "the third ends" wait_until 300 is_over "$id"
  check "another seed gives other bytes" test "$(cmp -s "$work/data/jobs/$first/model.safetensors" \
    "$work/data/jobs/$id/model.safetensors" || echo differ)" = differ
}

# losses ID: of each epoch over the test set, then the accuracy.
losses() { jq -r '.epochs[].test_loss, .accuracy' "$work/data/jobs/$1/run.json"; }
# are_near A B TOLERANCE: as many numbers in both files, each pair within this share of the larger one.
are_near() {
  paste "$1" "$2" | awk -v tolerance="$3" '
    { larger = $1 > $2 ? $1 : $2; if (NF != 2 || $1 $2 !~ /^[0-9.eE+-]+$/ || ($1 - $2)^2 > (tolerance * larger)^2) bad = 1 }
    END { exit !(NR > 2 && !bad) }'
}

# Whole jobs on an emulated device: layers by cuDNN's and cuBLAS's stand-ins, optimiser, replica and codec by CUDA's kernels.
# Their losses are those of the reference backend, from the same parameters over the same minibatches.
an_emulated_device_trains() {
  make_data 192 64
  start_server server
  WORKER_LINES='device: emulated' start_worker w1
  if ! wait_until 10 log_has w1 'on an emulated device'; then
    check "without an emulated device a worker ends with the reason" wait_until 10 log_has w1 "CUDA's and cuDNN's headers"
    stop w1
    check "and with status 3" test "$stop_status" = 3
    ((failures > 0)) || exit 77
    return
  fi
  MODEL=lenet STALENESS='{bound: 2, local_steps: 4}' job_file lenet 2 1 'deterministic: true' 'schedule: cosine'
  {
    sed '/^model:/d' "$work/lenet.yaml" | sed 's/type: momentum, learning_rate: 0.02, momentum: 0.9/type: adamw, learning_rate: 0.005/'
    cat << 'END'
model:
  layers:
    - conv2d: {channels: 8, kernel: 5, stride: 3, bias: false}
    - batch_norm
    - relu
    - residual: {body: [{conv2d: {channels: 8, kernel: 3, padding: 1, bias: false}}, batch_norm]}
    - relu
    - global_average_pool
    - dense
END
  } > "$work/residual.yaml"
  local -A first=()
  local job jobs=(lenet residual) both=lenet
  # Sanitizers make an emulated device so slow that they see the small ones only.
  ((${NANDUTI_SEEDS_PERCENT:-100} == 100)) || jobs=(residual) both=logistic
  for job in "${jobs[@]}"; do
    submit "$work/$job.yaml"
    first[$job]=$id
    check "$job on a device ends" wait_until 200 is_over "$id"
    check "$job on a device is done: $(field "$id" reason)" state_is "$id" "done"
    check "$job says what it was computed on" test "$(jq -r '.workers[0].device' "$work/data/jobs/$id/run.json" | grep -c '^an emulated device')" = 1
  done
  stop w1
  check "the worker ends with status 0" test "$stop_status" = 0
  WORKER_LINES=$'device: cpu\nbackend: reference' start_worker w2
  for job in "${jobs[@]}"; do
    submit "$work/$job.yaml"
    check "$job without a device ends" wait_until 200 is_over "$id"
    check "and is done" state_is "$id" "done"
    losses "${first[$job]}" > "$work/device"
    losses "$id" > "$work/reference"
    echo "$job, on the device and by the reference:"
    paste "$work/device" "$work/reference"
    check "$job: the same losses within 1 in 1000" are_near "$work/device" "$work/reference" 0.001
  done
  local status=0
  [[ $both != lenet ]] ||
    "$BIN/nanduti-worker" --selftest --device emulated --seconds 0.01 --json > "$work/selftest.json" 2> "$work/selftest.log" || status=$?
  check "the emulated device passes the self-test: $(cat "$work/selftest.json" 2> /dev/null)" test "$status" = 0
  # Side by side, by the compression that jobs have, and a device among CPUs.
  WORKER_LINES='device: emulated' start_worker w3
  MODEL=$both STALENESS='{bound: 3, local_steps: 4}' job_file both 1 2
  submit "$work/both.yaml"
  check "a job of a device and a CPU ends" wait_until 200 is_over "$id"
  check "it is done: $(field "$id" reason)" state_is "$id" "done"
  check "each sample counts once" test "$(field "$id" samples)" = 192
  check "both have taken part" test "$(jq '.workers | length' "$work/data/jobs/$id/run.json")" = 2
  stop w3
  check "a worker with a device ends with status 0" test "$stop_status" = 0
}

# A device that is not there, for each of the reasons that there are: status 3 and the reason; auto computes on the CPU.
devices_that_are_not_there() {
  make_data 200 100
  # refused NAME PATTERN [FOLDER-OF-LIBRARIES]: a worker with device: cuda:0 ends at once.
  refused() {
    printf "name: %s\ndevice: cuda:0\ndata_roots: ['%s']\n" "$1" "$work" > "$work/$1.yaml"
    local status=0
    LD_LIBRARY_PATH=${3:-} timeout 60 "${worker:-$BIN/nanduti-worker}" --config "$work/$1.yaml" > "$work/$1.log" 2>&1 || status=$?
    check "$1: status $status" test "$status" = 3
    check "$1: the reason: $(tail -1 "$work/$1.log")" grep -qE "device: cuda:0: $2" "$work/$1.log"
  }
  if ! PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -q 'libcuda\.so\.1'; then
    local lacks='there is no NVIDIA driver on this machine: libcuda.so.1'
    [[ -e $BIN/libnanduti_cuda.so ]] || lacks='libnanduti_cuda.so is not in .* it is built where nvcc, cuDNN and cuBLAS are found'
    refused no-driver "$lacks"
    start_server server
    printf "name: auto\ncoordinator: %s\ndata_roots: ['%s']\n" "$data_endpoint" "$work" > "$work/auto.yaml"
    launch auto nanduti-worker "$work/auto.yaml"
    check "auto says why it is the CPU" wait_until 20 log_has auto "device: auto is the CPU here: $lacks"
    stop auto
  fi
  # A driver that has nothing, as on a machine whose devices are gone.
  mkdir "$work/driver" "$work/no-cudnn" "$work/elsewhere"
  if echo 'int nothing;' | cc -shared -fPIC -x c - -o "$work/driver/libcuda.so.1" 2> /dev/null; then
    cp "$BIN/nanduti-worker" "$work/elsewhere"
    worker=$work/elsewhere/nanduti-worker refused no-module 'libnanduti_cuda.so is not in .*elsewhere.*it is built where' "$work/driver"
    if [[ -e $BIN/libnanduti_cuda.so ]]; then
      refused no-device 'looking for devices: ' "$work/driver"
      cp "$work/driver/libcuda.so.1" "$work/no-cudnn"
      echo "no library" > "$work/no-cudnn/libcudnn.so.9"
      refused no-cudnn '.*libcudnn.so.9' "$work/no-cudnn"
    fi
  fi
}

# Data that is not what it should be ends the job with a reason; the daemons live on and do the next job.
wrong_data_ends_the_job() {
  make_data 500 100
  job_file good 1 1
  start_server server
  start_worker w1

  # fails_with NAME PATTERN: $work/NAME.yaml fails, and its reason matches.
  fails_with() {
    submit "$work/$1.yaml"
    check "$1: it ends" wait_until 30 is_over "$id"
    check "$1: it fails" state_is "$id" failed
    check "$1: the reason: $(field "$id" reason)" grep -qE "$2" <<< "$(field "$id" reason)"
  }
  # broken NAME SED-EXPRESSION: the good job with something else in it.
  broken() { sed -E "$2" "$work/good.yaml" > "$work/$1.yaml"; }

  head -c 100000 "$work/train-images" > "$work/short-images"
  broken truncated 's/train-images/short-images/'
  fails_with truncated 'short-images.*(truncated|bytes)'
  { printf '\1\0\10\3' && tail -c +5 "$work/train-images"; } > "$work/magic-images"
  broken magic 's/train-images/magic-images/'
  fails_with magic 'magic-images.*magic'
  { head -c 407 "$work/train-labels" && printf '\372' && tail -c +409 "$work/train-labels"; } > "$work/odd-labels"
  { head -c 57 "$work/test-labels" && printf '\372' && tail -c +59 "$work/test-labels"; } > "$work/high-labels"
  broken label 's/test-labels/high-labels/'
  fails_with label 'high-labels.*label 250.*out of range'
  cut_labels train 400 "$work/few-labels"
  broken outlier 's/train-labels/odd-labels/'
  fails_with outlier 'odd-labels.*label 250 of sample 399 is out of range'
  broken counts 's/train-labels/few-labels/'
  fails_with counts '400.*500|500.*400'
  broken missing 's/train-images/no-such-file/'
  fails_with missing 'no-such-file'
  broken outside 's#images: train-images#images: /etc/passwd#'
  fails_with outside '/etc/passwd'
  broken classes 's/preset: mlp/layers: [dense: {units: 7}]/'
  fails_with classes 'must give 10 scores, one per class, but gives 7'
  broken rate 's/learning_rate: 0.02/learning_rate: 900/'
  fails_with rate 'loss is not a number'

  submit "$work/good.yaml"
  check "the good job ends" wait_until 60 is_over "$id"
  check "the good job is done" state_is "$id" "done"
  local last=$id
  rm -rf "$work"/data/jobs/*
  submit "$work/good.yaml"
  check "an id is not given twice, even if somebody has removed the folders" test "$id" = $((last + 1))
  check "and that job is done too" wait_until 60 state_is "$id" "done"
  check "the server is the same process" is_running server
  check "the worker is the same process" is_running w1
}

# What an operator does in the wrong order, or by mistake.
operators_mistakes() {
  make_data 500 100
  job_file small 1 1
  start_server server
  local data_port=${data_endpoint##*:} http_port=${NANDUTI_SERVER##*:}

  sed "s/:0\", http/:$data_port\", http/; s#'$work/data'#'$work/other'#" "$work/server.yaml" > "$work/second.yaml"
  launch second nanduti-server "$work/second.yaml"
  check "a second server on the data port ends" wait_until 10 has_ended second
  check "and says why" log_has second "127.0.0.1:$data_port is in use by another program"
  sed "s/127.0.0.1:0\"}/127.0.0.1:$http_port\"}/; s#'$work/data'#'$work/other'#" "$work/server.yaml" > "$work/third.yaml"
  launch third nanduti-server "$work/third.yaml"
  check "a second server on the http port ends" wait_until 10 has_ended third
  check "and says why" log_has third "127.0.0.1:$http_port is in use by another program"
  launch fourth nanduti-server "$work/server.yaml"
  check "a second server on the storage ends" wait_until 10 has_ended fourth
  check "and says why" log_has fourth 'in use by another nanduti-server'

  stop server TERM
  check "a server that is told to stop ends with status 0" test "$stop_status" = 0
  start_worker w1 "tcp://127.0.0.1:$data_port"
  check "a worker without a server waits and says so" \
    wait_until 10 log_has w1 "no answer from tcp://127.0.0.1:$data_port for 3 s: is nanduti-server running there"
  check "it goes on waiting" is_running w1
  start_server server2 "$data_port" "$http_port"
  check "it is there once the server is" wait_until 10 log_has server2 "worker 'w1' of site 'local' is here"
  submit "$work/small.yaml"
  check "and does a job" wait_until 60 state_is "$id" "done"

  job_file long 500 1
  submit "$work/long.yaml"
  check "a long job runs" wait_until 30 samples_above "$id" 500
  stop server2 TERM
  check "a server stopped in mid-job ends with status 0" test "$stop_status" = 0
  check "and leaves no record: the job is not over" test ! -e "$work/data/jobs/$id/run.json"
  check "its worker lives on" is_running w1
  check "and says that the server is away" wait_until 20 log_has w1 "no answer from tcp://127.0.0.1:$data_port for 3 s"
  local before
  start_server server3 "$data_port" "$http_port"
  check "it runs on the next server" state_is "$id" running
  before=$(field "$id" samples)
  check "the worker comes back and it goes on" wait_until 60 samples_above "$id" "$before"
  "$top/scripts/job.sh" cancel "$id" 2> /dev/null
  check "a job that was recovered can be cancelled" wait_until 10 state_is "$id" cancelled
  check "and has a record then" test "$(jq -r .state "$work/data/jobs/$id/run.json")" = cancelled
  submit "$work/small.yaml"
  check "job numbers go on over a restart" test "$id" = 3
  check "the worker does a job for the next server" wait_until 60 state_is "$id" "done"

  submit "$work/long.yaml"
  check "a job runs again" wait_until 30 samples_above "$id" 500
  kill -KILL "${pid_of[server3]}"
  wait "${pid_of[server3]}" 2> /dev/null
  start_server server4 "$data_port" "$http_port"
  "$top/scripts/job.sh" cancel "$id" 2> /dev/null
  submit "$work/small.yaml"
  check "a worker whose server was killed in mid-job does the next one" wait_until 60 state_is "$id" "done"
  submit "$work/long.yaml"
  check "a job runs once more" wait_until 30 samples_above "$id" 500
  "$top/scripts/job.sh" cancel "$id" 2> /dev/null
  check "a cancelled job is cancelled" wait_until 10 state_is "$id" cancelled
  stop w1 INT
  check "an idle worker ends at once on Ctrl-C, with status 0" test "$stop_status" = 0
}

# --check-config, --version and --help, and what an open address takes.
looking_at_configs() {
  check "the sample server config is right" test "$("$BIN/nanduti-server" --config "$top/configs/server.yaml" \
    --check-config)" = "$top/configs/server.yaml is right"
  check "the sample worker config is right" test "$(cd "$top" && "$BIN/nanduti-worker" --check-config --config \
    configs/worker.yaml)" = "configs/worker.yaml is right"
  printf 'name: x\nlisten: {data: tcp://0.0.0.0:7070}\n' > "$work/open.yaml"
  check "an open address without security: none is an error" test "$("$BIN/nanduti-server" --config "$work/open.yaml" \
    --check-config > /dev/null 2> "$work/open.log"; echo $?)" = 1
  check "that names file, line and key" log_has open "open.yaml:2: listen.data: "
  echo 'security: none' >> "$work/open.yaml"
  check "with it the config is right" test "$("$BIN/nanduti-server" --config "$work/open.yaml" --check-config \
    2> "$work/open.log")" = "$work/open.yaml is right"
  check "and warns" log_has open 'warning .*0\.0\.0\.0'
  check "an unknown key is an error" test "$(echo 'colour: red' > "$work/odd.yaml" && "$BIN/nanduti-worker" --config \
    "$work/odd.yaml" 2> "$work/odd.log"; echo $?)" = 1
  check "that names it" log_has odd 'odd.yaml:1: colour: '
  for asks in "device: cuda:63" "transport: {congestion_control: tahoe}"; do
    printf 'coordinator: tcp://127.0.0.1:7070\ndata_roots: [/tmp]\n%s\n' "$asks" > "$work/lacks.yaml"
    check "what this machine lacks is an error too ($asks)" test "$("$BIN/nanduti-worker" --check-config --config \
      "$work/lacks.yaml" > /dev/null 2> "$work/lacks.log"; echo $?)" = 3
    check "that names it" log_has lacks "cuda:63|tahoe"
  done
  check "--version" test "$("$BIN/nanduti-worker" --version)" = "nanduti-worker 0.1.0"
  check "--help" grep -q -- --check-config <("$BIN/nanduti-server" --help)
}

# Models, images and classes that are not in the repository: a stack of layers on odd images with 3 classes.
any_model_on_any_images() {
  local i
  { printf '\0\0\10\3' && be32 300 && be32 13 && be32 17; } > "$work/train-images"
  { printf '\0\0\10\1' && be32 300; } > "$work/train-labels"
  gzip -dc "$fashion/train-images-idx3-ubyte.gz" | tail -c +17 | head -c $((300 * 221)) >> "$work/train-images"
  for ((i = 0; i < 300; i++)); do printf '%b' "\\x0$((i % 3))"; done >> "$work/train-labels"
  gzip -k "$work/train-images"
  cat > "$work/stack.yaml" << 'END'
model:
  layers:
    - conv2d: {channels: 6, kernel: 3, padding: 1}
    - relu
    - average_pool: {kernel: 2, stride: 2}
    - conv2d: {channels: 9, kernel: 3, stride: 2}
    - max_pool: {kernel: 2, stride: 1}
    - flatten
    - dense: {units: 20}
    - relu
    - dense
data:
  train: {images: train-images.gz, labels: train-labels}
training: {epochs: 2, batch_size: 7, workers: 2, schedule: {type: step, epochs: 1, factor: 0.5}}
staleness: {bound: none, local_steps: 3}
END
  start_server server
  start_worker w1
  start_worker w2
  submit "$work/stack.yaml"
  check "it ends" wait_until 60 is_over "$id"
  check "it is done: $(field "$id" reason)" state_is "$id" "done"
  check "every sample counts" test "$(field "$id" samples)" = 600
  check "without a test set there is no accuracy" test "$(field "$id" accuracy)" = null
  check "the model has PyTorch's names" grep -qa '"0.weight"' "$work/data/jobs/$id/model.safetensors"
}

# Photographs in CIFAR's format with 9 classes, and a residual network: running statistics reach the model that is
# evaluated, from two workers and through servers that have momentum, which is not for them.
a_residual_network_learns_photographs() {
  local status=0
  "$top/test/support/photographs/photographs.sh" "$work/photographs" 1800 450 || status=$?
  ((status != 77)) || exit 77
  check "there are photographs" test "$status" = 0
  cat > "$work/residual.yaml" << 'END'
model: {preset: resnet20}
data: {format: cifar10, train: {files: [photographs/train.bin]}, test: {files: [photographs/test.bin]}}
training:
  workers: 2
  batch_size: 32
  epochs: 3
  augment: {crop: 4, flip: true}
  optimizer: {type: momentum, learning_rate: 0.05, weight_decay: 1e-4}
  server_optimizer: {type: nesterov, momentum: 0.5}
  schedule: {type: cosine, warmup_epochs: 0.25}
staleness: {bound: 3, local_steps: 2}
target: {at_least: 0.6}
END
  start_server server
  start_worker w1
  start_worker w2
  submit "$work/residual.yaml"
  check "it ends" wait_until 300 is_over "$id"
  check "it is done: $(field "$id" reason)" state_is "$id" "done"
  check "every sample counts" test "$(field "$id" samples)" = 5400
  echo "accuracy $(field "$id" accuracy), of 9 classes"
  check "it has learned: accuracy $(field "$id" accuracy)" awk "BEGIN { exit !($(field "$id" accuracy) >= 0.6) }"
  check "the model has its running statistics" grep -qa '"9.body.4.running_var"' "$work/data/jobs/$id/model.safetensors"
}

# The coordinator and the shards on servers of their own. One that dies for good ends the job; its successor does the
# next.
servers_apart() {
  make_data 1000 200
  job_file small 2 1
  job_file long 500 1
  start_coordinator 0 0
  start_worker w1
  submit "$work/small.yaml"
  check "a job without shards says what it waits for" test "$(field "$id" waiting_for)" = "1 shard (0 are here)"
  start_shards shards1 3
  check "the job runs once they are there" wait_until 60 state_is "$id" "done"
  submit "$work/long.yaml"
  check "a long job runs" wait_until 30 samples_above "$id" 1000
  stop shards1 KILL
  start_shards shards2 3
  check "the job whose shards died ends" wait_until 60 is_over "$id"
  check "it failed, with the reason" test "$(field "$id" state): $(field "$id" reason)" = \
    "failed: shard 0 of 'shards1' has not come back within 15 s"
  submit "$work/small.yaml"
  check "the next job runs on the new shards" wait_until 60 state_is "$id" "done"
  check "the coordinator is the same process" is_running coordinator
  check "the worker is the same process" is_running w1
}

# What a process slept through is nobody's silence: a server that is stopped for longer than dead_after goes on where it
# was, and so does a worker that is stopped for less.
frozen_processes_go_on() {
  make_data 3000 200
  job_file frozen 8 2
  SERVER_LINES='membership: {suspend_after: 2 s, dead_after: 4 s}' start_server server
  start_worker w1
  start_worker w2
  submit "$work/frozen.yaml"
  check "training begins" wait_until 30 samples_above "$id" 2000
  kill -STOP "${pid_of[w1]}"
  sleep 3
  kill -CONT "${pid_of[w1]}"
  check "the worker that slept is missed" log_has server "worker 'w1' is silent: suspended"
  kill -STOP "${pid_of[server]}"
  sleep 16
  kill -CONT "${pid_of[server]}"
  check "the job ends" wait_until 240 is_over "$id"
  check "it is done: $(field "$id" reason)" state_is "$id" "done"
  check "each sample counts once" test "$(field "$id" samples)" = 24000
  check "nobody was declared dead" test "$(grep -c 'dead to us' "$work/server.log")" = 0
}

# Idle daemons sleep: at most 2 % of a core over ten seconds each.
idle_daemons_sleep() {
  ticks() { awk '{print $14 + $15}' "/proc/${pid_of[$1]}/stat"; }
  start_server server
  start_worker w1
  check "the worker is there" wait_until 10 log_has server "is here"
  sleep 1
  local server_before worker_before server_used worker_used
  server_before=$(ticks server) worker_before=$(ticks w1)
  sleep 10
  server_used=$(($(ticks server) - server_before)) worker_used=$(($(ticks w1) - worker_before))
  echo "idle for 10 s: server $server_used, worker $worker_used hundredths of a CPU second"
  check "the idle server uses less than 2 % of a core" test "$server_used" -lt 20
  check "the idle worker uses less than 2 % of a core" test "$worker_used" -lt 20
}

scenario=${1:?a scenario}
declare -F "$scenario" > /dev/null || fail "there is no scenario $scenario"
"$scenario"
finish
