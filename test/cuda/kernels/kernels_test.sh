#!/usr/bin/env bash
# Goal: kernels stay within their budget (cuda/budget.txt), and those whose bits are the CPU's compute what they say: nothing is
# contracted, nothing approximate. Method: nvcc's own words about each architecture, and the PTX that it makes.
# Usage: NVCC_FLAGS="..." kernels_test.sh [--print] NVCC ARCHITECTURE...; --print shows rows as the budget has them
set -euo pipefail
top=$(cd "$(dirname "$0")/../../.." && pwd)
print=false
if [[ $1 == --print ]]; then
  print=true
  shift
fi
nvcc=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
read -ra flags <<< "${NVCC_FLAGS:?the flags that cuda/CMakeLists.txt compiles with}"
flags+=("-I$top")
failures=0
fail() {
  failures=$((failures + 1))
  echo "FAILED: $*"
}

# limits ARCHITECTURE: warps and blocks of a multiprocessor, bytes of shared memory (CUDA C++ Programming Guide, table
# "Technical Specifications per Compute Capability").
limits() {
  case $1 in
    80) echo 64 32 167936 ;;
    86) echo 48 16 102400 ;;
    90 | 100) echo 64 32 233472 ;;
    120) echo 48 24 102400 ;;
    *) return 1 ;;
  esac
}

# occupancy ARCHITECTURE THREADS REGISTERS SHARED: percent of the warps that fit. Registers are given to warps by 256, warps
# come by four, and each block takes 1 KiB of shared memory for the system.
occupancy() {
  local warps_max blocks_max shared_max warps by_registers by_shared blocks
  read -r warps_max blocks_max shared_max <<< "$(limits "$1")"
  warps=$((($2 + 31) / 32))
  by_registers=$((65536 / (($3 * 32 + 255) / 256 * 256) / 4 * 4 / warps))
  by_shared=$((shared_max / ($4 + 1024)))
  blocks=$((warps_max / warps))
  ((by_registers < blocks)) && blocks=$by_registers
  ((by_shared < blocks)) && blocks=$by_shared
  ((blocks_max < blocks)) && blocks=$blocks_max
  echo $((100 * blocks * warps / warps_max))
}

# measured LOG: kernel, registers, shared, stack of each kernel.
measured() {
  c++filt < "$1" | awk '
    /Compiling entry function/ { match($0, /device::[a-z_]+/); kernel = substr($0, RSTART + 8, RLENGTH - 8) }
    /bytes stack frame/ { stack = $1; spills = $5 + $9 }
    /Used [0-9]+ registers/ {
      shared = 0
      for (i = 1; i <= NF; ++i) { if ($i == "registers,") registers = $(i - 1); if ($i ~ /^smem/) shared = $(i - 2) }
      print kernel, registers, shared, stack, spills
    }' | sort
}

for architecture in "$@"; do
  limits "$architecture" > /dev/null || {
    echo "architecture $architecture has no rows in the budget: left out"
    continue
  }
  log=$work/$architecture.log
  : > "$log"
  for source in codec/codec.cu replica/replica.cu compute/compute.cu; do
    "$nvcc" "${flags[@]}" -arch="sm_$architecture" -Xptxas -v -cubin -o "$work/cubin" "$top/cuda/$source" >> "$log" 2>&1 || {
      cat "$log"
      fail "nvcc refuses the kernels of $source for $architecture"
      continue 2
    }
  done
  seen=0
  while read -r kernel registers shared stack spills; do
    ((spills == 0)) || fail "$architecture $kernel spills $spills bytes"
    [[ $kernel != *_plainly ]] || continue
    seen=$((seen + 1))
    if $print; then
      threads=256
      [[ $kernel != *_of_channels ]] || threads=128
      echo "$architecture $kernel $threads $registers $shared $stack $(occupancy "$architecture" "$threads" "$registers" "$shared")"
      continue
    fi
    row=$(grep "^$architecture $kernel " "$top/cuda/budget.txt") || {
      fail "$architecture $kernel has no row in the budget"
      continue
    }
    read -r _ _ threads may_registers may_shared may_stack may_occupancy <<< "$row"
    ((registers <= may_registers)) || fail "$architecture $kernel takes $registers registers of $may_registers"
    ((shared <= may_shared)) || fail "$architecture $kernel takes $shared bytes of shared memory of $may_shared"
    ((stack <= may_stack)) || fail "$architecture $kernel takes $stack bytes of stack of $may_stack"
    has=$(occupancy "$architecture" "$threads" "$registers" "$shared")
    ((has >= may_occupancy)) || fail "$architecture $kernel fills $has percent of a multiprocessor, not $may_occupancy"
  done < <(measured "$log")
  ((seen > 0)) || fail "nvcc says nothing of the kernels for $architecture"
  $print || ((seen == $(grep -c "^$architecture " "$top/cuda/budget.txt"))) ||
    fail "the budget has rows for $architecture that no kernel has"
done

for name in codec replica; do "$nvcc" "${flags[@]}" -arch=compute_80 -ptx -o "$work/$name.ptx" "$top/cuda/$name/$name.cu"; done
# Products and sums that are one operation, results that are not to nearest, subnormal numbers that become 0.
if grep -nE '\b(fma|mad)[a-z.]*\.f(32|64)|\.approx|\.ftz|\.full\.f32|\b(add|sub|mul|div)\.(rz|rm|rp|f32|f64)' "$work/codec.ptx" "$work/replica.ptx"; then
  fail "the kernels compute something else than single operations, rounded to nearest"
fi
grep -q 'div\.rn\.f32' "$work/codec.ptx" || fail "the PTX is not what this test has been written for"
$print || echo "$failures failures"
((failures == 0))
