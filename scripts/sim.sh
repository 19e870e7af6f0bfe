#!/usr/bin/env bash
# Runs the deterministic simulator: the real cores over a simulated network with faults, checked after every event.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

usage() {
  cat << 'END'
usage: scripts/sim.sh [--seeds N] [--from S]
       scripts/sim.sh --seed N [--trace]
       scripts/sim.sh --mutants
  --seeds N  run N seeds (default 500); progress on stderr, one line of figures at the end
  --from S   the first seed; random if not given, and printed
  --seed N   replay one seed exactly and print the hash of its trace; a failure shows its last events
  --trace    print every event of it
  --mutants  show that planted faults (test/sim/mutants) are caught, and how many seeds each needed
Exit status: 0 every promise was kept (every mutant was caught), 1 not (the failing seed is named).
END
}

seeds=500
from=
seed=
trace=()
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
    --trace) trace=(--trace) ;;
    --mutants) mutants=true ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done
cd "$top"

if $mutants; then
  status=0
  for patch in test/sim/mutants/*.patch; do
    name=$(basename "$patch" .patch)
    scripts/build.sh release "sim_mutant_$name" >&2
    printf '%-12s ' "$name"
    "build/release/bin/sim_mutant_$name" --from "${from:-1}" --seeds "$seeds" --expect-failure || status=1
  done
  exit "$status"
fi

scripts/build.sh release nanduti_sim >&2
if [[ -n $seed ]]; then exec build/release/bin/nanduti_sim --seed "$seed" "${trace[@]}"; fi
if [[ -z $from ]]; then
  from=$(od -An -N6 -tu8 /dev/urandom | tr -d ' ')
  note "from seed $from"
fi
exec build/release/bin/nanduti_sim --from "$from" --seeds "$seeds"
