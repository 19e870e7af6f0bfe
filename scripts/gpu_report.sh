#!/usr/bin/env bash
# What a GPU does with this program, in a form in which two kinds of GPUs can be compared.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

usage() {
  cat << 'END'
usage: scripts/gpu_report.sh [--device cuda:N] [--seconds S] [--out FILE] [--json]
  --device D   (default: cuda:0)
  --seconds S  each timing, more or less (default: 5)
  --out FILE   the report as JSON (default: build/gpu_report.json)
  --json       stdout is the report as JSON, not a table
Runs nanduti-worker --selftest --json twice, with products of float32 and of TF32, while nvidia-smi tells power and clocks
five times a second. Shares are of what the same device did in the same run, and of its peak by clock and width; energy of an
image or a value is the card's mean power while it was timed over the rate. N counts as nvidia-smi does. BIN names a folder of programs that are built already.
Exit status: 0, 1 if the self-test fails, 3 without such a device.
END
}

device=cuda:0
seconds=5
out=
json=false
while (($# > 0)); do
  case $1 in
    -h | --help)
      usage
      exit 0
      ;;
    --json) json=true ;;
    --device | --seconds | --out)
      value=$(value_of "$@")
      declare "${1#--}=$value"
      shift
      ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done
[[ $seconds =~ ^[0-9]+(\.[0-9]+)?$ ]] || usage_error "--seconds wants a number, not '$seconds'"
need_tools jq
[[ -z ${CUDA_VISIBLE_DEVICES:-} ]] || die "CUDA_VISIBLE_DEVICES gives devices other numbers than nvidia-smi has: unset it"
export CUDA_DEVICE_ORDER=PCI_BUS_ID
out=$(realpath -m -- "${out:-$top/build/gpu_report.json}")
cd "$top"
mkdir -p "$(dirname "$out")"
if [[ -z ${BIN:-} ]]; then
  scripts/build.sh release nanduti-worker nanduti_cuda >&2 || die "the worker or its module cannot be built"
fi
worker=${BIN:-$top/build/release/bin}/nanduti-worker
work=$(mktemp -d)
watcher=
clean_up() {
  [[ -z $watcher ]] || kill "$watcher" 2> /dev/null || true
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# ask FIELDS: of the driver, as comma-separated values; nothing if nobody answers.
ask() {
  [[ $device == cuda:* ]] || return 0
  nvidia-smi --id="${device#cuda:}" --query-gpu="$1" --format=csv,noheader,nounits 2> /dev/null || true
}

# measure NAME [OPTIONS...]: $work/NAME.json is the self-test, with what the driver said meanwhile.
measure() {
  local name=$1 status=0
  shift
  note "self-test, $name"
  : > "$work/$name.csv"
  (while :; do
    said=$(ask power.draw,clocks.sm,clocks.mem,temperature.gpu)
    [[ -z $said ]] || echo "$(date +%s.%N),$said" >> "$work/$name.csv"
    sleep 0.2
  done) &
  watcher=$!
  "$worker" --selftest --device "$device" --seconds "$seconds" --json "$@" > "$work/$name.selftest" || status=$?
  kill "$watcher" 2> /dev/null || true
  wait "$watcher" 2> /dev/null || true
  watcher=
  [[ $status == 0 || -s $work/$name.selftest ]] || exit "$status"
  jq --rawfile said "$work/$name.csv" 'def mean: if length > 0 then add / length else null end;
    [$said | split("\n")[] | select(length > 0) | split(",") | map(gsub(" "; "") | tonumber? // null)] as $samples
    | .timings |= map(. as $timing
        | [$samples[] | select(.[0] >= $timing.begin and .[0] <= $timing.end)]
        | $timing + {watts: (map(.[1] | numbers) | mean), sm_mhz: (map(.[2] | numbers) | mean),
                     memory_mhz: (map(.[3] | numbers) | mean), celsius: (map(.[4] | numbers) | max), driver_samples: length}
        | . + {joules_each: (if .watts then .watts / .median_per_second else null end)})' \
    "$work/$name.selftest" > "$work/$name.json"
}

measure float32
measure tf32 --tf32
IFS=, read -r driver max_sm max_memory limit <<< "$(ask driver_version,clocks.max.sm,clocks.max.memory,power.limit)" || true
jq -n --slurpfile float32 "$work/float32.json" --slurpfile tf32 "$work/tf32.json" --arg driver "${driver:-}" \
  --arg max_sm "${max_sm:-}" --arg max_memory "${max_memory:-}" --arg limit "${limit:-}" --arg when "$(date -u +%FT%TZ)" '
  def number: gsub(" "; "") | tonumber? // null;
  {when: $when, device: $float32[0].device, hardware: $float32[0].hardware, version: $float32[0].version,
   driver: {version: (if $driver == "" then null else $driver end), sm_mhz_max: ($max_sm | number),
            memory_mhz_max: ($max_memory | number), watts_max: ($limit | number)},
   passed: ($float32[0].passed and $tf32[0].passed),
   method: ("Medians of whole rounds (two minibatches that the host feeds, loss, gradient, optimiser, progress) and of pushes (residual += progress, "
     + "selection, coding, the payload on the host), by the host'"'"'s clock. FLOP/s: multiplications and additions of convolutions and dense layers, "
     + "forward, for the weights'"'"' gradient, and for the features'"'"' where they depend on parameters. Shares: of cuBLAS'"'"'s product of that kind and of a copy within the device'"'"'s memory, measured before in the same run by "
     + "the device'"'"'s clock, and of clock * lanes * 2. Energy: mean power that the driver tells for the whole card while a thing was timed, over its rate."),
   float32: $float32[0] | del(.device, .hardware, .version), tf32: $tf32[0] | del(.device, .hardware, .version)}' > "$out"
if $json; then
  cat "$out"
else
  jq -r 'def pct: if . then "\(. * 1000 | round / 10) %" else "-" end;
    def short: if . then (if . >= 1 then . * 100 | round / 100 else . * 1000000 | round / 1000000 end | tostring) else "-" end;
    "\(.device); driver \(.driver.version // "-"); passed: \(.passed)",
    (["products", "what", "per second", "GFLOP/s", "of cuBLAS", "of peak", "of copies", "mJ each"] | @tsv),
    (("float32", "tf32") as $kind | .[$kind].timings[]
     | [$kind, .name, "\(.median_per_second | round) \(.unit)", (.flops_per_second | if . then . / 1e9 else null end | short),
        (.share_of_products | pct), (.share_of_peak | pct), (.share_of_copies | pct), (.joules_each | if . then . * 1000 else null end | short)] | @tsv)' \
    "$out" | column -t -s $'\t'
  note "the report: $out"
fi
[[ $(jq .passed "$out") == true ]]
