#!/usr/bin/env bash
# Goal: scripts/experiment.sh runs its arms in turns, does its sums right, marks what failed and goes on after an interruption.
# Method: a stand-in for scripts/wan_lab.sh (WAN_LAB) with results made up from bound and seed, such that the figures are known.
# Usage: BIN=FOLDER experiment_test.sh
# shellcheck disable=SC2317 # called by name
# shellcheck source=test/e2e/daemons/harness.sh
source "$(dirname "$0")/../daemons/harness.sh"
: "${BIN:?the folder of nanduti_wan and quadratic_experiment}"
export BIN FAKE=$work/fake
mkdir "$FAKE"

# The stand-in: run PROFILE JOB --seed N --json. Files in $FAKE tell it what to fail at and when to hang.
export WAN_LAB=$work/wan_lab.sh
cat > "$WAN_LAB" << 'END'
#!/usr/bin/env bash
[[ $1 == run && $4 == --seed && $6 == --json ]] || exit 64
bound=$(jq '.staleness.bound | if . == "auto" then 16 else . end' "$3") seed=$5
echo "$2 $bound $seed" >> "$FAKE/runs"
if [[ -e $FAKE/hang ]]; then
  trap 'touch "$FAKE/told"; exit 143' TERM
  touch "$FAKE/hangs"
  for ((i = 0; i < 300; i++)); do sleep 0.1; done
fi
if [[ -e $FAKE/fail-$bound-$seed ]]; then
  echo "the sky fell" >&2
  exit 1
fi
jq -n --argjson bound "$bound" --argjson seed "$seed" '{state: "done", samples: 60000, utilisation: 0.5,
  bytes_up: (12000000 / (1 + $bound) + 5000000), exact_bytes_up: 5000000, accuracy: (0.8 + $bound / 100 * $seed), samples_per_s: (1000 + 100 * $bound),
  seconds_to_target: (if $bound == 4 then null else 100 - $seed end)}'
exit $((bound == 4))
END
chmod +x "$WAN_LAB"

out=$work/out
experiment() {
  status=0
  "$top/scripts/experiment.sh" "$@" --out "$out" > "$work/stdout" 2> "$work/experiment.log" || status=$?
}
says() { grep -qF -- "$1" "$work/stdout"; }
complains() { grep -qF -- "$1" "$work/experiment.log"; }
result() { jq -e "$1" "$out/result.json" > /dev/null; }
three=(delay --epochs 1 --seeds 3 --arms "sync-lan,bound-2,bound-4")

touch "$FAKE/fail-2-3"
experiment "${three[@]}"
check "a failed run is the exit status" test "$status" = 1
check "and does not end the experiment" test "$(wc -l < "$FAKE/runs")" = 9
check "the arms take turns from the first and from the last" test "$(cut -d' ' -f2,3 "$FAKE/runs" | paste -sd,)" = \
  "0 1,2 1,4 1,4 2,2 2,0 2,0 3,2 3,4 3"
check "each over its link" grep -qx 'new-york-asuncion 4 2' "$FAKE/runs"
check "the table marks the failed run" says '| bound-2 | new-york-asuncion | 2, 1 FAILED |'
check "and says why" says 'FAILED: bound-2, seed 3: the sky fell'
# Differences of .04, .08, .12: mean .08, deviation .04; t is 4.303 for three, 12.706 for the two pairs of .02, .04.
check "mean and interval over three pairs" says '| 0.8800 (+0.0800 ± 0.0994) |'
check "mean and interval over the two pairs that are whole" says '| 0.8300 (+0.0300 ± 0.1271) |'
check "no difference, no width" says '| 1400 (+400 ± 0) |'
check "a target that was missed" says '| -, missed 3 of 3 |'
check "the first arm stands alone" says '| sync-lan | lan | 3 | 0.8000 | 0.500 | 1000 | 98.0 |'
check "bytes of rounds, and how many times fewer" says '| 4.0 (1/3.0) | - |'
check "an interval of the arm's own mean" result '.arms[2].accuracy.mean | .count == 3 and (.half * 10000 | round) == 994'
check "the plot has a point for each arm" test "$(grep -c '<circle' "$out/plot.svg")" = 3
check "and ends" test "$(tail -n 1 "$out/plot.svg")" = '</svg>'

rm "$FAKE/fail-2-3" "$FAKE/runs"
experiment "${three[@]}" --json
check "then all is well" test "$status" = 0
check "only what failed is run again" test "$(cat "$FAKE/runs")" = 'new-york-asuncion 2 3'
check "stdout is the result" cmp -s "$work/stdout" "$out/result.json"
check "with the repeated run" result '.arms[1].runs == 3 and .arms[1].failed == []'

for change in "--epochs 2" "--profile thin"; do
  # shellcheck disable=SC2086 # two words
  experiment "${three[@]}" $change
  check "results with other settings than $change are refused" test "$status" = 1
  check "and named" complains "has results of other settings for arm"
done
rm -rf "$out" "$FAKE/runs"
experiment auto --seeds 1 --epochs 1 --arms lan-sync,nya
check "what an arm sets goes before what all arms set" test "$(cat "$FAKE/runs")" = $'lan 0 1\nnew-york-asuncion 16 1'
experiment delay --arms sync-lan,nobody
check "an arm that is not there is the caller's error" test "$status" = 64

out=$work/interrupted
rm "$FAKE/runs"
experiment delay --epochs 1 --seeds 1 --arms sync-lan
touch "$FAKE/hang"
"$top/scripts/experiment.sh" delay --epochs 1 --seeds 1 --arms sync-lan,bound-2 --out "$out" > "$work/stdout" \
  2> "$work/experiment.log" &
pid_of[experiment]=$!
check "the second arm runs" wait_until 20 test -e "$FAKE/hangs"
experiment delay --epochs 1 --seeds 1
check "a second experiment in the same folder is refused" complains "another experiment is writing"
kill -TERM "${pid_of[experiment]}"
status=0
wait "${pid_of[experiment]}" || status=$?
unset 'pid_of[experiment]'
check "an interrupted experiment ends" test "$status" = 143
check "its lab has been told" test -e "$FAKE/told"
check "what there is has its table" says '| sync-lan | lan | 1 | 0.8000 |'
rm "$FAKE/hang"
experiment delay --epochs 1 --seeds 1 --arms sync-lan,bound-2
check "and it goes on where it was" test "$status.$(cut -d' ' -f2 "$FAKE/runs" | paste -sd,)" = 0.0,2,2

# The jobs of all arms are valid: nanduti_wan checks each before the first run.
rm "$FAKE/runs"
for file in "$top"/configs/experiments/*.json; do
  name=$(basename "$file" .json)
  out=$work/all-$name
  experiment "$name" --seeds 1
  check "the arms of $name" test "$status.$(jq '.arms | length' "$out/result.json")" = "0.$(jq '.arms | length' "$file")"
done

# The time to a target, from a run.json by hand: evaluations of 1 s lie between its moments.
run_json() {
  jq -n "{target: $1, training_seconds: 34, pipeline: {start_seconds: 3}, samples: 600, epochs: [
    {accuracy: 0.7, seconds: 21, evaluation_seconds: 1}, {accuracy: 0.9, seconds: 34, evaluation_seconds: 4}],
    evaluations: [{accuracy: 0.5, seconds: 10, evaluation_seconds: 0}, {accuracy: 0.8, seconds: 27, evaluation_seconds: 2}]}"
}
of_run() { run_json "$1" | jq -L "$top/scripts/lib" "include \"run_summary\"; $2"; }
check "the target lies on the line between the evaluations around it" test "$(of_run 0.75 'seconds_to_target * 10 | round')" = 225
check "ends of epochs count like others" test "$(of_run 0.6 'seconds_to_target * 10 | round')" = 150
check "the first evaluation may have it" test "$(of_run 0.4 seconds_to_target)" = 10
check "a target that was missed has no time" test "$(of_run 0.95 seconds_to_target)" = null
check "nor has a job without one" test "$(of_run null seconds_to_target)" = null
check "evaluations are no training time, nor is the start" test "$(of_run null pure_training_seconds)" = 27
check "records without any of it stand for themselves" test "$(jq -n -L "$top/scripts/lib" 'include "run_summary";
  {target: 0.5, epochs: [{accuracy: 0.6, seconds: 3}]} | [seconds_to_target, pure_training_seconds]' -c)" = '[3,0]'

out=$work/quadratic
experiment quadratic
check "the quadratic has its table" says '| 4 | 0.3473 | 0.35 | 0.9999 | 1 | 0.3230 | 0.32 |'
check "and its plot" test "$(grep -c '<polyline' "$out/plot.svg")" = 3
finish
