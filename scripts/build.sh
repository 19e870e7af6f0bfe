#!/usr/bin/env bash
# Configures and builds one preset.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=release
jobs=
targets=()
while (($# > 0)); do
  case "$1" in
    -h | --help)
      echo "usage: scripts/build.sh [dev|release|asan|tsan|fuzz] [--jobs N] [TARGET...]"
      echo "Builds into build/PRESET; programs lie in build/PRESET/bin. The preset is release if none is named."
      exit 0
      ;;
    --jobs)
      jobs=${2:?--jobs wants a number}
      shift
      ;;
    dev | release | asan | tsan | fuzz) preset=$1 ;;
    -*)
      echo "build: unknown option '$1' (see --help)" >&2
      exit 2
      ;;
    *) targets+=("$1") ;;
  esac
  shift
done

if [[ -z $jobs ]]; then
  # A compiler takes up to 1.5 GiB here.
  memory_kib=$(awk '/MemAvailable/ {print $2}' /proc/meminfo)
  jobs=$((memory_kib / 1572864))
  cores=$(nproc)
  ((jobs > cores)) && jobs=$cores
  ((jobs < 1)) && jobs=1
fi
# Of what CMake says, what is left out for want of something.
cmake --preset "$preset" | { grep -e '-- no ' || true; }
cmake --build --preset "$preset" --parallel "$jobs" ${targets[@]:+--target "${targets[@]}"}
