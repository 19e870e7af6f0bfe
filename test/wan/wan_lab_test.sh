#!/usr/bin/env bash
# Goal: a lab is what its profile says, to ping, UDP and TCP of the kernel; it changes while it is used; a job runs across it;
# and nothing is left of it, however it ends. Method: scripts/wan_lab.sh as people call it. Speeds are printed; only what
# no load of the machine can explain fails. Skipped where this machine cannot have a lab, and says why.
# Usage: BIN=FOLDER wan_lab_test.sh SCENARIO
# shellcheck disable=SC2317 # scenarios and conditions are called by name
# shellcheck source=test/e2e/daemons/harness.sh
source "$(dirname "$0")/../e2e/daemons/harness.sh"
: "${BIN:?the folder of nanduti_wan, nanduti-server and nanduti-worker}"
export BIN

name=test-$$
peer=10.77.0.1
lab() { "$top/scripts/wan_lab.sh" "$@" --lab "$name"; }
in_workers() { nsenter "--net=/run/netns/nanduti-$name-workers" "$@"; }
in_server() { nsenter "--net=/run/netns/nanduti-$name-server" "$@"; }
end_lab() {
  lab down 2> /dev/null
  clean_up
}
trap end_lab EXIT

start_lab() {
  local status=0
  lab up "$@" > "$work/up.txt" 2> "$work/up.err" || status=$?
  ((status != 77)) || {
    echo "skipped: $(cat "$work/up.err")"
    exit 77
  }
  check "a lab starts: $(cat "$work/up.err")" test "$status" = 0
  ((status == 0)) || finish
}
# holds EXPRESSION: of numbers.
holds() { awk "BEGIN { exit !($*) }"; }
# pings COUNT: into $work/ping, one every 20 ms.
pings() { in_workers ping -n -i 0.02 -W 1 -c "$1" "$peer" > "$work/ping" 2>&1; }
round_trips() { sed -nE 's/.* time=([0-9.]+) ms.*/\1/p' "$work/ping" | sort -n; }
percentile() { round_trips | awk -v share="$1" '{ t[NR] = $1 } END { print t[int((NR - 1) * share) + 1] + 0 }'; }
answers() { round_trips | wc -l; }
# transfer IPERF ARGUMENTS...: into $work/transfer.json; again where iperf3 fails or
# brings no sums, as while its server still has another.
transfer() {
  for _ in 1 2 3 4 5; do
    ! in_workers iperf3 -c "$peer" --json "$@" > "$work/transfer.json" ||
      ! jq -e '.end.sum // .end.sum_received' "$work/transfer.json" > /dev/null || return 0
    echo "iperf3: $(of_transfer .error)"
    sleep 1
  done
  fail "iperf3 measures"
}
of_transfer() { jq "$1" "$work/transfer.json"; }
# tcp CONGESTION_CONTROL: Mbit/s of one connection over a route that says so, after its first seconds; sets mbit.
tcp() {
  lab set "cc=$1" > /dev/null
  transfer -t 3 -O 2
  mbit=$(of_transfer '.end.sum_received.bits_per_second / 1e6 | round')
  check "the route's congestion control is in force" test "$(of_transfer .end.sender_tcp_congestion)" = "\"$1\""
}

ping_and_tcp_get_what_is_asked_for() {
  local median least most rate lost best=0
  start_lab rtt=180,jitter=10,rate=100,loss=0.1
  in_server iperf3 -s --json > /dev/null 2>&1 &
  pings 100
  median=$(percentile 0.5) least=$(percentile 0) most=$(percentile 0.98)
  echo "ping: median $median ms, $least to $most ms; asked for: 170 to 190 ms"
  check "no ping is faster than light" holds "$least >= 170"
  check "the median ping takes the round trip" holds "$median >= 172 && $median < 200"
  transfer -u -l 1400 -b 120M -t 3 --get-server-output
  rate=$(of_transfer '[.server_output_json.intervals[].sum.bits_per_second] | sort | .[length / 2 | floor] / 1e6 | round')
  echo "UDP: $rate Mbit/s; asked for: 100 Mbit/s with headers"
  check "UDP gets the rate" holds "$rate > 70 && $rate <= 99"
  lab set loss=3 > /dev/null
  transfer -u -l 500 -b 40M -t 2
  lost=$(of_transfer '.end.sum.lost_percent * 100 | round / 100')
  echo "UDP: $lost % lost; asked for: 3 %"
  check "so many packets are lost" holds "$lost > 2.2 && $lost < 4"
  lab set loss=0.1 > /dev/null
  for _ in 1 2 3; do
    tcp bbr
    echo "TCP, bbr: $mbit Mbit/s"
    ((mbit <= best)) || best=$mbit
    ((best < 60)) || break
  done
  check "bbr gets 60 % of the rate in one of three" holds "$best >= 60"
  tcp cubic
  echo "TCP, cubic: $mbit Mbit/s"
  check "cubic suffers from the losses as it does at a distance" holds "$mbit < $best"
  lab status | jq -c '{cpu_fraction: (.cpu_seconds / .seconds), late_ms_mean, late_ms_max, is_real_time}'
}

changes_and_blackouts() {
  local before
  start_lab rtt=40
  pings 20
  check "a ping takes 40 ms" holds "$(percentile 0) >= 40 && $(percentile 0.5) < 60"
  lab set rtt=120 > /dev/null
  pings 20
  check "after the change it takes 120 ms" holds "$(percentile 0) >= 120 && $(percentile 0.5) < 140"
  lab blackout 600 up > /dev/null
  pings 20
  check "nothing comes back in a blackout" test "$(answers)" = 0
  check "all of it was lost on the way up" test "$(lab status | jq -c '[.up.dropped_blackout, .down.dropped_blackout]')" = "[20,0]"
  lab blackout 0 > /dev/null
  pings 20
  check "it ends by order" test "$(answers)" = 20
  before=$(date +%s%N)
  lab blackout 1 > /dev/null
  in_workers ping -n -i 0.1 -c 30 "$peer" > "$work/ping" 2>&1
  check "and by itself" holds "$(answers) > 5 && $(answers) < 22"
  check "after a second" test "$(($(date +%s%N) - before))" -gt 1000000000
  lab set duplicate=100 > /dev/null
  pings 10
  # The last ones come after ping has what it waits for.
  check "a packet doubled both ways is answered four times" holds "$(grep -c DUP "$work/ping") >= 27"
  check "a wrong key is named" grep -q 'unknown key (did you mean' <<< "$(lab set los=5 2>&1)"
  check "a congestion control that is not there is named" grep -q "no congestion control 'swift'" <<< "$(lab set cc=swift 2>&1)"
  check "a second lab of the same name is refused" grep -q 'there already' <<< "$(lab up lan 2>&1)"
  pings 10
  check "and leaves the first alone" holds "$(answers) >= 10"
}

# remains: prints what is left of the lab.
remains() {
  ip netns list | grep -F "nanduti-$name-"
  ls -d "/run/nanduti-wan/$name" 2> /dev/null
  pgrep -af "nanduti-wan/$name/|config $work/tmp/"
}
# in_background ARGUMENTS...: as from a terminal, where Ctrl-C reaches the whole group; its log is $work/run.log.
in_background() {
  rm -f "$work/run.log"
  set -m
  "$top/scripts/wan_lab.sh" "$@" --lab "$name" > "$work/run.out" 2> "$work/run.log" &
  pid_of[run]=$!
  set +m
}
training_begins() { grep -q 'epoch 1/' "$work/run.log"; }

a_job_across_the_link() {
  local status=0
  mkdir "$work/tmp"
  export TMPDIR=$work/tmp
  make_data 2000 500
  MODEL=logistic job_file short 1 2
  sed -Ei "s#(train|test)-(images|labels)#$work/&#g" "$work/short.yaml"
  echo 'compression: none' >> "$work/short.yaml"
  lab run rtt=20,rate=200,cc=cubic "$work/short.yaml" --bound 2 --seed 5 --json --keep "$work/kept" > "$work/summary.json" 2> "$work/run.log" || status=$?
  ((status != 77)) || {
    echo "skipped: $(cat "$work/run.log")"
    exit 77
  }
  check "the job is done: status $status" test "$status" = 0
  check "stdout is JSON alone, with all keys" jq -se 'length == 1 and (["utilisation", "utilisation_min", "samples_per_s",
    "stall_seconds", "accuracy", "seconds_to_target", "bytes_up", "bytes_down", "exact_bytes_up", "exact_bytes_down", "bound", "local_steps", "age_p50", "age_p99",
    "start_seconds", "congestion_control"] - (.[0] | keys) == []) and (.[0].stall_seconds | keys == ["codec", "data", "gate", "merge", "window"])' \
    "$work/summary.json" > "$work/truth"
  check "its figures are the job's" jq -e '.accuracy > 0.2 and .samples_per_s > 0 and .start_seconds > 0 and .start_seconds < .training_seconds and .bytes_up > 1000000 and .bound == 2 and
    .local_steps == 1 and .congestion_control == "cubic" and .workers == 2 and .link.up.bytes_in > .bytes_up / 2' \
    "$work/summary.json" > "$work/truth"
  check "the seed went into the job" test "$(jq .seed "$work/kept/run.json")" = 5
  check "nothing is left: $(remains)" test -z "$(remains)"
  check "nor in the folder of temporary files" test -z "$(ls "$work/tmp")"

  # Interrupted in mid-job.
  MODEL=logistic job_file long 10000 2
  sed -Ei "s#(train|test)-(images|labels)#$work/&#g" "$work/long.yaml"
  in_background run rtt=20 "$work/long.yaml"
  check "training begins" wait_until 30 training_begins
  check "the lab is there" test -n "$(remains)"
  kill -INT -- "-${pid_of[run]}"
  stop run INT
  check "an interrupted run says so by its status, not $stop_status" test "$stop_status" = 130
  check "nothing is left: $(remains)" test -z "$(remains)"

  # Killed, which nobody can clean up after: `down` does.
  in_background run lan "$work/long.yaml"
  check "training begins" wait_until 30 training_begins
  stop run KILL
  check "the lab is still there" test -n "$(remains)"
  lab down 2> /dev/null
  check "down ends a stale one: $(remains)" wait_until 5 test -z "$(remains)"
}

"$1"
finish
