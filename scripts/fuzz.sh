#!/usr/bin/env bash
# Fuzzes everything that comes from a network, a file or an operator: builds test/fuzz and lets each fuzzer run for a
# while under AddressSanitizer and UndefinedBehaviorSanitizer.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

usage() {
  cat << 'END'
usage: scripts/fuzz.sh [--minutes M] [--jobs N] [NAME...]
       scripts/fuzz.sh --replay FILE NAME
  --minutes M      how long each fuzzer runs (default 1; decimals as in 0.1), after the inputs that are known
  --jobs N         fuzzers at once (default and at most: one per processor)
  --replay FILE    run one input, such as a finding, through the fuzzer NAME
  NAME             fuzzers to run (default: all): what follows "fuzz_" in test/fuzz
New inputs that reach new code go to build/fuzz/corpus/NAME and are used again next time. Findings go to
build/fuzz/findings/NAME, with the log beside them.
Exit status: 0 nothing was found, 1 something was (or, with --replay, the input fails).
END
}

# ---- the stated maxima; test/fuzz/README.md says why ----
allocation_mib=64 # of one allocation
memory_mib=1024   # of the whole process; AddressSanitizer's own quarantine takes 256 of it
input_seconds=10  # for one input
note_every_s=60

# input_bytes_max NAME: longer inputs than this only cost time.
input_bytes_max() {
  case $1 in
    session | shard | coordinator | client) echo 512 ;;
    *) echo 4096 ;;
  esac
}

minutes=1
jobs=$(nproc)
replay=
names=()
while (($# > 0)); do
  case $1 in
    -h | --help)
      usage
      exit 0
      ;;
    --minutes)
      minutes=$(value_of "$@")
      [[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]] || usage_error "--minutes wants a number, not '$minutes'"
      shift
      ;;
    --jobs)
      jobs=$(value_of "$@")
      need_number "$1" "$jobs"
      ((jobs > 0)) || usage_error "--jobs wants at least 1"
      shift
      ;;
    --replay)
      replay=$(realpath -- "$(value_of "$@")")
      [[ -f $replay ]] || die "there is no file '$replay'"
      shift
      ;;
    -*) usage_error "unknown argument '$1'" ;;
    *) names+=("$1") ;;
  esac
  shift
done
cd "$top"

all=()
for file in test/fuzz/fuzz_*.cc; do
  name=$(basename "$file" .cc)
  [[ $name == fuzz_seeds ]] || all+=("${name#fuzz_}")
done
for name in ${names[@]+"${names[@]}"}; do
  [[ " ${all[*]} " == *" $name "* ]] || usage_error "there is no fuzzer '$name'; there are: ${all[*]}"
done
((${#names[@]} > 0)) || names=("${all[@]}")
((jobs <= $(nproc))) || jobs=$(nproc)
seconds=$(awk -v minutes="$minutes" 'BEGIN { s = int(minutes * 60 + 0.5); print s < 1 ? 1 : s }')

need_tools clang++-14
export UBSAN_OPTIONS=print_stacktrace=1
limits=("-malloc_limit_mb=$allocation_mib" "-rss_limit_mb=$memory_mib" "-timeout=$input_seconds")
out=build/fuzz

if [[ -n $replay ]]; then
  ((${#names[@]} == 1)) || usage_error "--replay wants the name of one fuzzer"
  scripts/build.sh fuzz "fuzz_${names[0]}" >&2
  if "$out/bin/fuzz_${names[0]}" "${limits[@]}" "$replay"; then exit 0; fi
  exit 1
fi

scripts/build.sh fuzz fuzzers >&2
"$out/bin/fuzz_seeds" "$out/seeds"

# fuzz NAME: the known inputs one by one and as they are, then what follows from them.
fuzz() {
  local name=$1 findings=$out/findings/$1 known=()
  mkdir -p "$out/corpus/$name" "$out/seeds/$name" "$findings"
  mapfile -t known < <(find "test/fuzz/corpus/$name" "$out/seeds/$name" -type f 2> /dev/null | sort)
  local options=("${limits[@]}" -artifact_prefix="$findings/" -print_funcs=0)
  if ((${#known[@]} > 0)); then "$out/bin/fuzz_$name" "${options[@]}" "${known[@]}" || return; fi
  case $name in
    # Entropic scheduling takes a third of the time where inputs reach much.
    session | shard | coordinator | client) options+=(-len_control=0 -entropic=0) ;;
  esac
  [[ ! -e test/fuzz/$name.dict ]] || options+=(-dict="test/fuzz/$name.dict")
  local corpora=("$out/corpus/$name" "$out/seeds/$name")
  [[ ! -d test/fuzz/corpus/$name ]] || corpora+=("test/fuzz/corpus/$name")
  exec "$out/bin/fuzz_$name" "${options[@]}" -max_len="$(input_bytes_max "$name")" -max_total_time="$seconds" \
    -print_final_stats=1 "${corpora[@]}"
}

# figure NAME PATTERN: the last number behind PATTERN in the fuzzer's log.
figure() {
  local found
  found=$(grep -aoE "$2 *[0-9]+" "$out/findings/$1/log.txt" | tail -1 | grep -oE '[0-9]+$' || true)
  echo "${found:-0}"
}

declare -A running=() # process id to name
# shellcheck disable=SC2317 # the trap calls it
stop_all() {
  trap - INT TERM
  for pid in "${!running[@]}"; do kill "$pid" 2> /dev/null || true; done
  wait
  note "stopped"
  exit 130
}
trap stop_all INT TERM

failed=()
# finish PID: collects one fuzzer that has ended.
finish() {
  local pid=$1 name=${running[$1]} status=0
  wait "$pid" || status=$?
  unset "running[$pid]"
  local executed
  executed=$(figure "$name" 'stat::number_of_executed_units:')
  if ((status != 0)); then failed+=("$name"); fi
  printf '%-12s %10d inputs %7d/s  %6d covered  %s\n' "$name" "$executed" "$(figure "$name" 'average_exec_per_sec:')" \
    "$(figure "$name" 'cov:')" "$( ((status == 0)) && echo "nothing found" || echo "FOUND SOMETHING (status $status)")"
}

note "${#names[@]} fuzzers, $seconds s each, $jobs at once"
waiting=("${names[@]}")
noted=$SECONDS
while ((${#waiting[@]} + ${#running[@]} > 0)); do
  while ((${#waiting[@]} > 0 && ${#running[@]} < jobs)); do
    name=${waiting[0]}
    waiting=("${waiting[@]:1}")
    rm -rf "$out/findings/$name"
    mkdir -p "$out/findings/$name"
    fuzz "$name" > "$out/findings/$name/log.txt" 2>&1 &
    running[$!]=$name
  done
  sleep 0.2
  for pid in "${!running[@]}"; do
    kill -0 "$pid" 2> /dev/null || finish "$pid"
  done
  if ((SECONDS - noted >= note_every_s)); then
    noted=$SECONDS
    for pid in "${!running[@]}"; do
      note "${running[$pid]}: $(grep -aoE '^#[0-9]+' "$out/findings/${running[$pid]}/log.txt" | tail -1 | tr -d '#') inputs so far"
    done
  fi
done

((${#failed[@]} > 0)) || exit 0
for name in "${failed[@]}"; do
  echo
  echo "== $name: $out/findings/$name/log.txt"
  grep -a -m 1 -E 'check failed|runtime error|ERROR: ' "$out/findings/$name/log.txt" || tail -3 "$out/findings/$name/log.txt"
  for input in "$out/findings/$name"/*-*; do
    [[ -e $input ]] && echo "   scripts/fuzz.sh --replay $input $name"
  done
  grep -a -E '^Running: ' "$out/findings/$name/log.txt" | tail -1 | sed "s|^Running: \(.*\)|   last known input: \1|"
done
exit 1
