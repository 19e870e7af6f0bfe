#!/usr/bin/env bash
# Builds a benchmark and runs it.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

usage() {
  cat << 'END'
usage: scripts/bench.sh trainer [--json] [--seconds S] [--data DIRECTORY|synthetic]
  trainer  images/s of the trainer on one thread, and of bare oneDNN forward and backward of the same model, in
           turns: LeNet, 28 x 28, batch 64, medians of 5 pairs, by the thread's CPU time

  --json       stdout is one JSON object: trainer_images_per_s, bare_images_per_s, ratio and more
  --seconds S  CPU seconds to measure (default: 10)
  --data DIR   folder with the four MNIST-like IDX files (default: Fashion-MNIST if installed, else synthetic)
END
}

benchmark=
data=/usr/share/datasets/fashion-mnist
[[ -d $data ]] || data=synthetic
options=()
while (($# > 0)); do
  case "$1" in
    -h | --help)
      usage
      exit 0
      ;;
    --json) options+=(--json) ;;
    --seconds)
      seconds=$(value_of "$@")
      [[ $seconds =~ ^[0-9]+([.][0-9]+)?$ ]] || usage_error "--seconds wants a number, not '$seconds'"
      options+=(--seconds "$seconds")
      shift
      ;;
    --data)
      data=$(value_of "$@")
      shift
      ;;
    trainer) benchmark=$1 ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done
[[ -n $benchmark ]] || usage_error "which benchmark?"
if [[ $data != synthetic ]]; then
  [[ -d $data ]] || die "there is no folder '$data'"
  options+=(--data "$(cd "$data" && pwd)")
fi

cd "$top"
scripts/build.sh release "bench_$benchmark" >&2
exec "build/release/bin/bench_$benchmark" ${options[@]:+"${options[@]}"}
