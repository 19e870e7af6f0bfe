#!/usr/bin/env bash
# The golden bytes with g++ and clang++, without optimisation and with: builds the codec and its golden test four times.
set -euo pipefail
cd "$(dirname "$0")/../.."

for compiler in g++ clang++-14; do
  for level in -O0 -O3; do
    folder=build/golden/$compiler$level
    cmake -S . -B "$folder" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="$level" > /dev/null
    cmake --build "$folder" --target test_golden > "$folder/build_log.txt" 2>&1 || {
      cat "$folder/build_log.txt"
      exit 1
    }
    echo "$compiler $level"
    "$folder/bin/test_golden"
  done
done
