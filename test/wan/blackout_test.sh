#!/usr/bin/env bash
# Goal: a blackout costs no more than its time, and nothing is lost. Method: one worker and two shards across a lab; in mid-job
# nothing comes through for a while. What the computing thread did meanwhile, its CPU time says; what counted, the server. Only
# what no load of the machine can explain fails: an end, all samples once, nobody declared dead. Times are printed.
# Usage: BIN=FOLDER blackout_test.sh SECONDS [slow] [float32]; slow: a model so slow that its window lasts for more than 10 s;
# float32: pushes of 94 kB (slow: 135 kB), which TCP's slow start takes a while to carry again, in place of compressed ones
# shellcheck disable=SC2317 # called by name
# shellcheck source=test/e2e/daemons/harness.sh
source "$(dirname "$0")/../e2e/daemons/harness.sh"
: "${BIN:?the folder of nanduti_wan, nanduti-server and nanduti-worker}"
export BIN

blackout=$1
shift
batches=24 more_layers='' compression=''
for word; do
  case $word in
    slow) batches=72 more_layers='conv2d: {channels: 32, kernel: 5}, relu, ' ;;
    float32) compression='compression: none' ;;
  esac
done
round_samples=$((32 * batches))
name=blackout-$$
round_trip_ms=180
rate_mbit=100
lab() { "$top/scripts/wan_lab.sh" "$@" --lab "$name"; }
in_server() { nsenter "--net=/run/netns/nanduti-$name-server" "$@"; }
end_lab() {
  lab down 2> /dev/null
  clean_up
}
trap end_lab EXIT

make_data 60000 500
cat > "$work/job.yaml" << END
name: blackout
model: {layers: [conv2d: {channels: 16, kernel: 5}, relu, max_pool, ${more_layers}dense]}
data:
  format: idx
  train: {images: '$work/train-images', labels: '$work/train-labels'}
  test: {images: '$work/test-images', labels: '$work/test-labels'}
$compression
staleness: {bound: 2, local_steps: $batches}
training: {workers: 1, batch_size: 32, epochs: 6, optimizer: {type: momentum, learning_rate: 0.02, momentum: 0.9}}
END

# milliseconds: since a fixed moment.
milliseconds() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }
# job KEY: of the job, as its server sees it.
job() { in_server curl -s --max-time 2 http://127.0.0.1:7080/v1/jobs/1 2> /dev/null | jq -r "$1"; }
find_compute() {
  local pid
  for pid in $(ip netns pids "nanduti-$name-workers"); do
    [[ $(cat "/proc/$pid/comm" 2> /dev/null) == nanduti-worker ]] || continue
    compute=$(grep -lx compute "/proc/$pid/task/"*/comm) && compute=${compute%/comm}
  done
  [[ -n ${compute:-} ]]
}
# One line: ms, samples that count, the computing thread's CPU time in ticks, rounds in flight, stall by cause. Sets samples.
look() {
  local now figures stat
  now=$(milliseconds)
  figures=$(job '[.samples, .pipeline.pushes_in_flight, .pipeline.stall_window_seconds, .pipeline.stall_data_seconds,
    .pipeline.stall_gate_seconds + .pipeline.stall_codec_seconds + .pipeline.stall_merge_seconds] | map(tostring) | join(" ")')
  [[ $figures =~ ^[0-9]+\ .* ]] || return 1
  stat=$(cat "$compute/stat" 2> /dev/null) || return 1
  stat=${stat##*) }
  # shellcheck disable=SC2086 # words
  set -- $stat
  samples=${figures%% *}
  echo "$now $samples $((${12} + ${13})) ${figures#* }" >> "$work/looks"
}
# look_for MS: looks ten times a second.
look_for() {
  local end=$(($(milliseconds) + $1))
  while (($(milliseconds) < end)); do
    look || return 1
    sleep 0.05
  done
}
counts_samples() {
  local samples
  samples=$(job '.samples // 0')
  ((${samples:-0} > $1))
}

status=0
lab run "rtt=$round_trip_ms,jitter=10,rate=$rate_mbit,loss=0.1" "$work/job.yaml" --seed 1 --json --keep "$work/kept" \
  > "$work/summary.json" 2> "$work/run.log" &
pid_of[run]=$!
wait_until 60 counts_samples 0 || {
  wait "${pid_of[run]}"
  status=$?
  ((status != 77)) || {
    echo "skipped: $(cat "$work/run.log")"
    exit 77
  }
  fail "training begins"
  finish
}
check "the computing thread is found" find_compute
# Far from the job's end, where a worker has been lent most: a coordinator that is out of reach lends nothing.
samples=0
while ((samples < 60000)) && is_running run; do look_for 200; done
begin=$(milliseconds)
lab blackout "$blackout" > /dev/null
look_for $((blackout * 1000))
end=$((begin + blackout * 1000))
look_for 60000
wait "${pid_of[run]}" || status=$?
unset 'pid_of[run]'

check "the job ends by itself: status $status" test "$status" = 0
run=$work/kept/run.json
check "every sample counts" test "$(jq .samples "$run")" = 360000
check "once" test "$(jq .repeated_samples "$run")" = 0
check "all epochs have figures" test "$(jq '[.epochs[] | select(.accuracy != null)] | length' "$run")" = 6
check "nobody was declared dead" test "$(grep -c 'dead to us' "$work/kept/server.log")" = 0

awk -v begin="$begin" -v end="$end" -v blackout="$blackout" -v round_trip="$round_trip_ms" -v rate_mbit="$rate_mbit" \
  -v ticks="$(getconf CLK_TCK)" -v round_samples="$round_samples" \
  -v push_bytes="$(jq "(.bytes_up - .pipeline.exact_bytes_up) / (.samples / $round_samples)" "$run")" '
  { ms[NR] = $1; samples[NR] = $2; cpu[NR] = $3 / ticks; in_flight[NR] = $4; window[NR] = $5; data[NR] = $6; other[NR] = $7 }
  $1 < begin { first_in = NR }
  $1 < end { last_in = NR }
  # The share of a core that the computing thread had from line i to line j.
  function share(i, j) { return (cpu[j] - cpu[i]) / (ms[j] - ms[i]) * 1000 }
  function from(time, i) { for (i = 1; i <= NR && ms[i] < time; i++); return i > NR ? NR : i }
  function speed(i, j) { return (samples[j] - samples[i]) / (ms[j] - ms[i]) * 1000 }
  END {
    start = from(begin - 4000)
    usual = share(start, first_in)
    usual_speed = speed(start, first_in)
    printf "second  samples/s  computing\n"
    for (t = begin - 4000; t + 1000 <= ms[NR] && t < end + 10000; t += 1000) {
      i = from(t); j = from(t + 1000)
      if (t > begin + 15000 && t < end - 3000) continue
      if (j > i) printf "%6d  %9d  %7d %%\n", (t - begin) / 1000, speed(i, j), 100 * share(i, j) / usual
    }
    worked = (cpu[last_in] - cpu[first_in]) / usual
    # Rounds that waited at its end: computed, and not counted.
    computed = worked * usual_speed
    backlog = (computed - samples[last_in] + samples[first_in]) / round_samples * push_bytes
    bound = 2 * round_trip / 1000 + backlog * 8 / 1e6 / rate_mbit + 1
    for (i = last_in; i < NR && samples[i] <= samples[last_in]; i++);
    settles = (ms[i] - end) / 1000
    for (i = last_in; i < NR && share(i, from(ms[i] + 1000)) < 0.8 * usual; i++);
    computes = ms[i] > end ? (ms[i] - end) / 1000 : 0
    for (i = last_in; i < NR && samples[i] - samples[first_in] < (cpu[i] - cpu[first_in]) / usual * usual_speed - usual_speed; i++);
    caught_up = (ms[i] - end) / 1000
    printf "before: %d samples/s; stall %.2f s with a full window, %.2f s without samples, %.2f s otherwise\n", usual_speed,
      window[first_in], data[first_in], other[first_in]
    lasts = (64 - in_flight[first_in]) * round_samples / usual_speed
    lasted = worked >= 0.9 * (lasts < blackout ? lasts : blackout)
    without = data[from(end + 3000)] - data[first_in]
    why = lasted ? "no stall while it lasted" : without > 0 ? "it ran out of samples before" : "it stalled before"
    printf "blackout of %d s: the worker went on computing for %.1f s of it; the rest of its window of 64 rounds lasts %.1f s: %s\n", blackout,
      worked, lasts, why
    printf "after: stall %.2f s with a full window, %.2f s without samples, %.2f s otherwise, before and in the blackout included\n",
      window[NR], data[NR], other[NR]
    printf "after its end: samples count again after %.1f s, full speed after %.1f s, the backlog of %.2f MB is through after %.1f s\n",
      settles, computes, backlog / 1e6, caught_up
    printf "2 round trips, the backlog at the rate of the link and 1 s are %.1f s\n", bound
  }' "$work/looks" || failures=$((failures + 1))
cp "$work/looks" "$work/kept/server.log" "$work/kept/worker-1.log" "${LOOKS_FOLDER:-$work}" 2> /dev/null
finish
