#!/usr/bin/env bash
# Runs the deterministic simulator: the real cores over a simulated network with faults, checked after every event.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

usage() {
  cat << 'END'
usage: scripts/sim.sh [--seeds N] [--from S] [--keep-going] [--coverage]
       scripts/sim.sh --seed N | --scenario FILE [--story | --trace | --shrink | --plan]
       scripts/sim.sh --mutants [--seeds N] [--from S]
  --seeds N        play N seeds (default 500); progress on stderr, one line of figures at the end
  --from S         the first seed; random if not given, and printed
  --keep-going     do not stop at the first seed that fails
  --coverage       print how often each fault struck and each state was reached
  --seed N         play one seed exactly and print the hash of its trace; a failure shows its last events
  --scenario FILE  the same for a plan written down (test/sim/README.md)
  --story          print what people would tell of it
  --trace          print every event
  --shrink         print the smallest scenario found that fails in the same way
  --plan           print the plan as a scenario file
  --mutants        show that every planted fault (test/sim/mutants) is caught, and how many seeds each needed
                   (default: up to 2000)
A seed that fails is shrunk at once: the scenario is left in build/sim/.
Exit status: 0 every promise was kept (every mutant was caught), 1 not (the failing seed is named).
END
}

seeds=
from=
seed=
scenario=
options=()
one_only=
mutants=false
while (($# > 0)); do
  case $1 in
    -h | --help)
      usage
      exit 0
      ;;
    --seeds | --from | --seed)
      value=$(value_of "$@")
      need_number "$1" "$value"
      declare "${1#--}=$value"
      shift
      ;;
    --scenario)
      scenario=$(realpath "$(value_of "$@")")
      shift
      ;;
    --keep-going | --coverage) options+=("$1") ;;
    --story | --trace | --shrink | --plan)
      one_only=$1
      options+=("$1")
      ;;
    --mutants) mutants=true ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done
[[ -z $one_only || -n $seed || -n $scenario ]] || usage_error "$one_only is of one seed (--seed N) or one --scenario FILE"
cd "$top"

programs=build/release/bin
if $mutants; then
  scripts/build.sh release sim_mutants >&2
  status=0
  for patch in test/sim/mutants/*.patch; do
    name=$(basename "$patch" .patch)
    printf '%-18s ' "$name"
    "$programs/sim_mutant_$name" --from "${from:-1}" --seeds "${seeds:-2000}" --expect-failure 2> /dev/null || status=1
  done
  exit "$status"
fi

scripts/build.sh release nanduti_sim >&2
if [[ -n $scenario ]]; then exec "$programs/nanduti_sim" --scenario "$scenario" "${options[@]}"; fi
if [[ -n $seed ]]; then exec "$programs/nanduti_sim" --seed "$seed" "${options[@]}"; fi
if [[ -z $from ]]; then
  from=$(od -An -N6 -tu8 /dev/urandom | tr -d ' ')
  note "from seed $from"
fi
mkdir -p build/sim
log=build/sim/last_run.txt
"$programs/nanduti_sim" --from "$from" --seeds "${seeds:-500}" "${options[@]}" | tee "$log" && exit 0
failed=$(sed -n 's/^seed \([0-9]*\) \(FAILS\|aborts\).*/\1/p' "$log" | head -1)
if [[ -n $failed ]]; then
  note "shrinking seed $failed"
  "$programs/nanduti_sim" --seed "$failed" --shrink > "build/sim/seed-$failed.yaml" 2> /dev/null || true
  note "scripts/sim.sh --seed $failed --trace shows it; smaller: scripts/sim.sh --scenario build/sim/seed-$failed.yaml --trace"
fi
exit 1
