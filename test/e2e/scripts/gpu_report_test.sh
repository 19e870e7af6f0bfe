#!/usr/bin/env bash
# Goal: gpu_report.sh puts together what the self-test and the driver say, and ends with their status. Method: a program
# and a driver that say known things; the worker itself, which has no such device. Wants BIN, the folder of the programs.
set -uo pipefail
top=$(cd "$(dirname "$0")/../../.." && pwd)
: "${BIN:?the folder of nanduti-worker}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
check() {
  local what=$1
  shift
  "$@" || {
    failures=$((failures + 1))
    echo "FAILED: $what"
  }
}
# value FILTER: of the report.
value() { jq -cr "$1" "$work/report.json"; }

mkdir "$work/bin" "$work/programs"
cat > "$work/bin/nvidia-smi" << 'END'
#!/usr/bin/env bash
case $* in
  *driver_version*) echo "580.65.06, 1980, 2619, 700.00" ;;
  *) echo "300.50, 1900, 2619, [N/A]" ;;
esac
END
cat > "$work/programs/nanduti-worker" << 'END'
#!/usr/bin/env bash
# as the self-test: rounds at 1000 images/s, by TF32 at 2000
rate=1000
[[ $* != *--tf32* ]] || rate=2000
begin=$(date +%s.%N)
sleep 0.7
cat << JSON
{"device":"a device","hardware":"a machine","version":"0.1","passed":${PASSED:-true},"checks":[{"name":"a","passed":${PASSED:-true},"detail":""}],
"rates":{"copy_bytes_per_second":1e12,"product_flops_per_second":5e13,"peak_bytes_per_second":4e12,"peak_flops_per_second":6e13},
"timings":[{"name":"rounds","unit":"images","median_per_second":$rate,"lowest":900,"highest":2100,"begin":$begin,"end":$(date +%s.%N),"flops_per_second":1e12,
"share_of_products":0.02,"share_of_peak":0.0166,"bytes_per_second":null,"share_of_copies":null}]}
JSON
[[ ${PASSED:-true} == true ]]
END
chmod +x "$work/bin/nvidia-smi" "$work/programs/nanduti-worker"
report() { PATH=$work/bin:$PATH BIN=$work/programs "$top/scripts/gpu_report.sh" --out "$work/report.json" "$@"; }

report > "$work/table" 2> /dev/null
check "it ends with 0" test $? = 0
check "the table has both kinds of products: $(cat "$work/table")" test "$(grep -cE '^(float32|tf32) ' "$work/table")" = 2
check "the driver" test "$(value '[.driver.version, .driver.sm_mhz_max, .driver.watts_max]')" = '["580.65.06",1980,700]'
check "power and clocks while it was measured" test \
  "$(value '.float32.timings[0] | [.watts, .sm_mhz, .memory_mhz, .celsius]')" = '[300.5,1900,2619,null]'
check "energy of an image" test "$(value '[.float32.timings[0].joules_each, .tf32.timings[0].joules_each]')" = '[0.3005,0.15025]'
check "figures are the self-test's" test "$(value '.tf32.timings[0].median_per_second')" = 2000
check "the method is stated" test "$(value '.method | length > 200')" = true
report --json 2> /dev/null > "$work/json"
check "--json is the report" cmp "$work/json" "$work/report.json"
PASSED=false report > /dev/null 2>&1
check "a self-test that fails is status 1" test $? = 1
check "and the report is there" test "$(value .passed)" = false

BIN=$BIN "$top/scripts/gpu_report.sh" --device cuda:63 --out "$work/none.json" > /dev/null 2> "$work/err"
check "without such a device the status is 3" test $? = 3
check "with the reason: $(cat "$work/err")" grep -q 'device: cuda:63: ' "$work/err"
for wrong in "--seconds soon" --out --colour; do
  # shellcheck disable=SC2086 # words
  "$top/scripts/gpu_report.sh" $wrong > /dev/null 2>&1
  check "$wrong is status 64" test $? = 64
done
CUDA_VISIBLE_DEVICES=1 "$top/scripts/gpu_report.sh" > /dev/null 2> "$work/err"
check "devices by other numbers are refused" test $? = 1
"$top/scripts/gpu_report.sh" --help | grep -q '^usage: scripts/gpu_report.sh'
check "--help" test $? = 0
echo "$failures failures"
((failures == 0))
