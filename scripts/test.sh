#!/usr/bin/env bash
# Installs, builds and tests everything. The last line is "N passed, N failed, N skipped".
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

full=false
case "${1:-}" in
  -h | --help)
    echo "usage: scripts/test.sh [--full]"
    echo "Installs what is missing, checks the sources, builds release and asan, runs all tests in both, and fuzzes briefly."
    echo "--full adds ThreadSanitizer, 20,000 fresh simulator seeds, planted faults, the golden bytes of four builds, three jobs of 20"
    echo "disturbances each, jobs with blackouts of three minutes and of less than the window, and the quickstart. The long run of"
    echo "the fuzzers is scripts/fuzz.sh --minutes 20."
    exit 0
    ;;
  --full) full=true ;;
  "") ;;
  *)
    echo "test: unknown argument '$1' (see --help)" >&2
    exit 2
    ;;
esac

passed=0 failed=0 skipped=0
times=()

# stage NAME COMMAND...: runs it as one test of its own.
stage() {
  local name=$1 start=$SECONDS
  shift
  echo "== $name"
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "== $name FAILED"
  fi
  times+=("$(printf '%5d s  %s' $((SECONDS - start)) "$name")")
}

# run_ctest PRESET [CTEST ARGUMENTS...]: every test case counts.
run_ctest() {
  local preset=$1 start=$SECONDS report
  shift
  report=build/$preset/test_report.xml
  rm -f "$report"
  echo "== tests, $preset"
  ctest --test-dir "build/$preset" -j2 --output-on-failure --output-junit test_report.xml "$@" > "build/$preset/test_log.txt" 2>&1
  if [[ ! -s $report ]]; then
    cat "build/$preset/test_log.txt"
    failed=$((failed + 1))
  else
    local total bad omitted
    total=$(grep -o 'tests="[0-9]*"' "$report" | head -1 | tr -dc 0-9)
    bad=$(grep -o 'failures="[0-9]*"' "$report" | head -1 | tr -dc 0-9)
    omitted=$(grep -o 'skipped="[0-9]*"' "$report" | head -1 | tr -dc 0-9)
    ((bad == 0)) || cat "build/$preset/test_log.txt"
    ((total > 0)) || failed=$((failed + 1))
    passed=$((passed + total - bad - omitted))
    failed=$((failed + bad))
    skipped=$((skipped + omitted))
  fi
  times+=("$(printf '%5d s  tests, %s' $((SECONDS - start)) "$preset")")
}

# Three fresh seeds; each is printed beside its plan.
chaos() {
  # shellcheck disable=SC2046 # three words
  BIN=$PWD/build/release/bin CHAOS_DISTURBANCES=20 CHAOS_REFERENCES=3 test/e2e/daemons/chaos_test.sh \
    $(od -An -N6 -tu2 /dev/urandom)
}

export NANDUTI_SEEDS_PERCENT=100
stage "install" scripts/bootstrap.sh
stage "tidy" scripts/tidy.sh
stage "build, release" scripts/build.sh release
run_ctest release
stage "build, asan" scripts/build.sh asan
NANDUTI_SEEDS_PERCENT=10 run_ctest asan
stage "build, fuzz" scripts/build.sh fuzz
stage "fuzz, 6 s each" scripts/fuzz.sh --minutes 0.1
if $full; then
  stage "build, tsan" scripts/build.sh tsan
  export TSAN_OPTIONS=suppressions=$PWD/test/support/tsan_suppressions.txt
  # Two LeNets under ThreadSanitizer take longer than the scenario waits; the bytes are release's and asan's affair.
  NANDUTI_SEEDS_PERCENT=10 run_ctest tsan -E 'deterministic jobs repeat'
  stage "simulator, 20,000 fresh seeds" scripts/sim.sh --seeds 20000
  stage "simulator, planted faults" scripts/sim.sh --mutants
  stage "golden bytes, two compilers at two levels" test/golden/compilers_test.sh
  stage "chaos, three jobs of 20 disturbances" chaos
  BIN=$PWD/build/release/bin stage "a blackout of three minutes" test/wan/blackout_test.sh 180
  BIN=$PWD/build/release/bin stage "a blackout shorter than the window" test/wan/blackout_test.sh 10 slow
  stage "quickstart" scripts/quickstart.sh
fi

printf '%s\n' "${times[@]}"
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
