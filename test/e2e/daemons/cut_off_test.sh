#!/usr/bin/env bash
# Goal: a worker that reaches the coordinator but not the shards holds nobody up: not at the gate, not in an evaluation,
# not at the job's end; and it is one of the job's workers again once the link has healed.
# Method: coordinator and shards in processes of their own, the shards behind an address of their own; a worker in a
# network namespace loses its route to them. Skipped, and says so, where namespaces cannot be made.
# Usage: BIN=FOLDER cut_off_test.sh
if [[ -z ${CUT_OFF_INSIDE:-} ]]; then
  export CUT_OFF_INSIDE=true
  for user in "" --user; do
    # shellcheck disable=SC2086 # none or one
    if unshare $user ${user:+--map-root-user} --net --mount bash -c \
      'mount -t tmpfs none /run && ip link set lo up && ip netns add probe && ip link add name near type veth peer name far netns probe' \
      > /dev/null 2>&1; then
      # shellcheck disable=SC2086 # none or one
      exec unshare $user ${user:+--map-root-user} --net --mount "$0" "$@"
    fi
  done
  echo "no network namespaces here: skipped"
  exit 77
fi
# shellcheck source=test/e2e/daemons/harness.sh
source "$(dirname "$0")/harness.sh"
: "${BIN:?the folder of nanduti-server and nanduti-worker}"

mount -t tmpfs none /run
ip link set lo up
shards_address=10.9.0.1
ip address add "$shards_address/32" dev lo
ip netns add far
ip link add name to1 type veth peer name wan netns far
ip address add 10.0.1.1/30 dev to1
ip link set to1 up
ip -n far address add 10.0.1.2/30 dev wan
ip -n far link set wan up
ip -n far link set lo up
ip -n far route add default via 10.0.1.1

make_data 3000 500
cat > "$work/coordinator.yaml" << END
name: coordinator
roles: {coordinator: true, shards: 0}
listen: {data: "tcp://0.0.0.0:0", http: "127.0.0.1:0"}
storage: {directory: '$work/data'}
security: none
membership: {suspend_after: 2 s, dead_after: 30 s, lease_timeout: 4 s}
END
launch coordinator nanduti-server "$work/coordinator.yaml"
check "the coordinator starts" wait_until 10 log_has coordinator 'jobs at http'
data_port=$(grep -oE 'tcp://[^ ,]+' "$work/coordinator.log" | head -1 | sed 's/.*://')
NANDUTI_SERVER=$(grep -oE 'http://[^ ,]+' "$work/coordinator.log" | head -1)
export NANDUTI_SERVER
cat > "$work/shards.yaml" << END
name: shards
roles: {coordinator: false, shards: 2}
coordinator: "tcp://127.0.0.1:$data_port"
listen: {data: "tcp://$shards_address:0"}
security: none
END
launch shards nanduti-server "$work/shards.yaml"
WORKER_LINES='security: none'
INSIDE=(ip netns exec far)
start_worker cut "tcp://10.0.1.1:$data_port"
INSIDE=()
start_worker w2 "tcp://127.0.0.1:$data_port"

workers_json() { "$top/scripts/job.sh" workers --json; }
# shellcheck disable=SC2317 # called by wait_until
is_gone() { [[ $(workers_json | jq -r '.gone[].name') == *cut* ]]; }
# shellcheck disable=SC2317 # called by wait_until
has_state() { [[ $(workers_json | jq -r '.workers[] | select(.name == "cut") | .state') == "$1" ]]; }

# Long enough to be there when the link has healed.
STALENESS='{bound: 1, local_steps: 1}' job_file healed 100000 2
submit "$work/healed.yaml"
check "training begins" wait_until 60 samples_above "$id" 500
ip -n far route add blackhole "$shards_address"
check "its lease expires, and nobody's else" wait_until 30 is_gone
check "the coordinator still hears of it, and it is out of the gate" wait_until 30 has_state idle
samples=$(field "$id" samples)
check "the others go on without it" wait_until 120 samples_above "$id" $((samples + 5000))
ip -n far route del blackhole "$shards_address"
check "it takes part again once the link has healed" wait_until 60 has_state active
"$top/scripts/job.sh" cancel "$id" 2> /dev/null
check "the job is cancelled" wait_until 10 state_is "$id" cancelled
check "only the one that was cut off was declared dead" \
  test "$(workers_json | jq -r '[.gone[].name] | unique | join(" ")')" = cut

# Cut off to the end: epochs are evaluated and the job ends without it.
STALENESS='{bound: 1, local_steps: 1}' job_file short 12 2
submit "$work/short.yaml"
check "training begins" wait_until 60 samples_above "$id" 500
ip -n far route add blackhole "$shards_address"
check "the job ends by itself" wait_until 400 is_over "$id"
check "it is done: $(field "$id" reason)" state_is "$id" "done"
check "each sample of each epoch counts once" test "$(field "$id" samples)" = 36000
check "every epoch is evaluated" test \
  "$(jq '.epochs | map(select(.accuracy == null)) | length' "$work/data/jobs/$id/run.json")" = 0
check "the one that is cut off lives" is_running cut
finish
