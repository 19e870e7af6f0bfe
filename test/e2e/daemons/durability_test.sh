#!/usr/bin/env bash
# Goal: jobs go on by themselves after servers are killed or stopped: nothing that was acknowledged is lost or counted
# twice. Method: real processes on loopback, one scenario a run; deterministic jobs must end with the bytes of an
# undisturbed one. Usage: BIN=FOLDER durability_test.sh SCENARIO
# shellcheck disable=SC2317 # scenarios are called by name
# shellcheck source=test/e2e/daemons/harness.sh
source "$(dirname "$0")/harness.sh"
: "${BIN:?the folder of nanduti-server and nanduti-worker}"

# A job that everybody does undisturbed, and what is done to others.
make_jobs() {
  make_data 3000 300
  STALENESS='{bound: 2, local_steps: 1}' job_file calm 4 2 'deterministic: true'
  STALENESS='{bound: 4, local_steps: 1}' job_file wild 8 2
}
goes_on() { samples_above "$id" "$before" || is_over "$id"; }
# kill_at SAMPLES NAME COMMAND...: ends the server NAME then, and starts it again by the command; training must go on.
kill_at() {
  local begin before
  check "the job comes to $1 samples" wait_until 60 samples_above "$id" "$1"
  before=$(field "$id" samples)
  stop "$2" "${SIGNAL:-KILL}"
  begin=$EPOCHREALTIME
  "${@:3}"
  check "the job goes on" wait_until 30 goes_on
  awk "BEGIN { printf \"it went on %.2f s after the restart\\n\", $EPOCHREALTIME - $begin }"
}
# ended_well SERVER: the asynchronous job.
ended_well() {
  check "an asynchronous one ends" wait_until 200 state_is "$id" "done"
  check "every sample counts once" test "$(field "$id" samples)" = 24000
  check "none was repeated: nobody died" test "$(field "$id" repeated_samples)" = 0
  check "nobody was declared dead" test "$(grep -c 'dead to us' "$work/$1.log")" = 0
  check "it has learnt" test "$(jq -n "$(field "$id" accuracy) > 0.6")" = true
}

# A server with shards is killed at full load, again and again, and started: the job goes on where it was, and a
# deterministic one ends with the bytes of an undisturbed one.
killed_shards_go_on() {
  make_jobs
  STALENESS='{bound: 4, local_steps: 1}' job_file forgetful 200 2
  echo 'durability: memory' >> "$work/forgetful.yaml"
  start_coordinator 0 0
  start_shards shards 2
  start_worker w1
  start_worker w2
  submit "$work/calm.yaml"
  local calm=$id
  check "the undisturbed job ends" wait_until 200 state_is "$calm" "done"
  submit "$work/calm.yaml"
  for samples in 1000 4000 9000; do kill_at "$samples" shards start_shards shards 2; done
  check "the disturbed one ends" wait_until 200 state_is "$id" "done"
  check "with the same model" cmp "$work/data/jobs/$calm/model.safetensors" "$work/data/jobs/$id/model.safetensors"
  check "the shards had recovered" log_has shards 'shard 2 goes on with job'
  submit "$work/wild.yaml"
  for samples in 1500 8000 12000 19000; do kill_at "$samples" shards start_shards shards 2; done
  ended_well coordinator
  check "nothing is left of the jobs in the shards' storage" wait_until 10 test ! -e "$work/shards-data/shards/1/log"
  submit "$work/forgetful.yaml"
  check "a job in memory runs" wait_until 30 samples_above "$id" 1000
  check "it writes no log" test ! -e "$work/shards-data/shards/1/log"
  stop shards KILL
  start_shards shards 2
  check "it ends when its shards have forgotten it" wait_until 30 is_over "$id"
  check "it says why" test "$(field "$id" reason)" = "a shard of 'shards' was lost"
}

# A server with everything on it, killed and stopped: jobs that run, wait and are over are what they were.
killed_servers_go_on() {
  make_jobs
  start_server server
  local data_port http_port
  data_port=$(grep -oE '[0-9]+$' <<< "$data_endpoint")
  http_port=$(grep -oE '[0-9]+$' <<< "$NANDUTI_SERVER")
  again() {
    start_server server "$data_port" "$http_port"
    wait_until 20 status_json "$id"
  }
  start_worker w1
  start_worker w2
  submit "$work/calm.yaml"
  local calm=$id
  check "the undisturbed job ends" wait_until 200 state_is "$calm" "done"
  submit "$work/calm.yaml"
  local disturbed=$id
  submit "$work/wild.yaml"
  local wild=$id
  id=$disturbed
  for samples in 1000 3000 5000; do kill_at "$samples" server again; done
  SIGNAL=TERM kill_at 8000 server again
  check "a server that is told to stop says that the job goes on" \
    log_has server "job $disturbed goes on when this server is started again"
  check "the disturbed one ends" wait_until 200 state_is "$disturbed" "done"
  check "with the same model" cmp "$work/data/jobs/$calm/model.safetensors" \
    "$work/data/jobs/$disturbed/model.safetensors"
  check "its record counts each epoch once" test \
    "$(jq '[.epochs[].samples] | add' "$work/data/jobs/$disturbed/run.json")" = 12000
  check "the one before is what it was" state_is "$calm" "done"
  id=$wild
  for samples in 1500 8000 14000; do kill_at "$samples" server again; done
  ended_well server
  check "the workers are the same processes" is_running w1
  submit "$work/wild.yaml"
  check "a job runs" wait_until 60 samples_above "$id" 500
  "$top/scripts/job.sh" cancel "$id" 2> /dev/null
  stop server KILL
  again
  check "what was cancelled stays so" state_is "$id" cancelled
  submit "$work/calm.yaml"
  check "job numbers go on" test "$id" = 5
  check "the next job is done" wait_until 200 state_is "$id" "done"
}

# The coordinator alone is killed, and once everything together.
killed_coordinators_go_on() {
  make_jobs
  MEMBERSHIP='{suspend_after: 2 s}'
  start_coordinator 0 0
  start_shards shards 2
  again() {
    start_coordinator "$(grep -oE '[0-9]+$' <<< "$data_endpoint")" "$(grep -oE '[0-9]+$' <<< "$NANDUTI_SERVER")"
    wait_until 20 status_json "$id"
  }
  everything() {
    start_shards shards 2
    again
  }
  start_worker w1
  start_worker w2
  submit "$work/wild.yaml"
  for samples in 500 4000 9000; do kill_at "$samples" coordinator again; done
  check "the job comes to 14000 samples" wait_until 60 samples_above "$id" 14000
  stop shards KILL
  kill_at 14000 coordinator everything
  ended_well coordinator
}

scenario=${1:?a scenario}
declare -F "$scenario" > /dev/null || fail "there is no scenario $scenario"
"$scenario"
finish
