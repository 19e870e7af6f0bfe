#!/usr/bin/env bash
# Builds a benchmark and runs it.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

usage() {
  cat << 'END'
usage: scripts/bench.sh trainer [--json] [--seconds S] [--model lenet|resnet20] [--data DIRECTORY|synthetic]
       scripts/bench.sh accuracy [JOB.yaml] [--seeds N] [--json]
       scripts/bench.sh workers [JOB.yaml] [--pairs N] [--json]
       scripts/bench.sh codec [--json] [--seconds S] [--data DIRECTORY|synthetic]
       scripts/bench.sh sessions
       scripts/bench.sh durability [--parameters N] [--folder DIR] [--json]
  trainer   images/s of the trainer on one thread, and of bare oneDNN forward and backward of the same model, in
            turns: LeNet on 28 x 28 or resnet20 on 3 x 32 x 32 (synthetic), batch 64, medians of 5 pairs, by the
            thread's CPU time
  accuracy  runs a whole job through quickstart.sh with seeds 1 to N: accuracies and training times
  workers   samples/s of two epochs of a job with two workers against one, in turns (ABBA), medians
  codec     bits per value sent on the progress of an MLP of 5.8 M parameters; encode against e[i] += d[i] on 25 M
            parameters, decode and apply against a plain gather-add; shortest times, one thread
  durability  milliseconds from a push to its acknowledgement by a shard whose log is on disk, one every 20 ms, without and
            with a snapshot being written; seconds that the shard takes to be there again from snapshot and log
  sessions  what a frame costs a session hub with 1 to 4000 sessions

  --json       stdout is one JSON object
  --seconds S  CPU seconds to measure (default: 10)
  --model M    (default: lenet)
  --data DIR   folder with the four MNIST-like IDX files (default: Fashion-MNIST if installed, else synthetic)
  --seeds N    (default: 5)
  --pairs N    (default: 3)
  --parameters N  of the shard (default: 25000000)
  --folder DIR    on the disk in question (default: the system's temporary folder)
  JOB.yaml     default: configs/jobs/fashion_lenet.yaml; it names its seed, epochs and workers on lines of their own
END
}

benchmark=
job=$top/configs/jobs/fashion_lenet.yaml
model=lenet
data=/usr/share/datasets/fashion-mnist
[[ -d $data ]] || data=synthetic
seeds=5
pairs=3
json=false
options=()
while (($# > 0)); do
  case "$1" in
    -h | --help)
      usage
      exit 0
      ;;
    --json)
      json=true
      options+=(--json)
      ;;
    --seconds)
      seconds=$(value_of "$@")
      [[ $seconds =~ ^[0-9]+([.][0-9]+)?$ ]] || usage_error "--seconds wants a number, not '$seconds'"
      options+=(--seconds "$seconds")
      shift
      ;;
    --model)
      model=$(value_of "$@")
      [[ $model == lenet || $model == resnet20 ]] || usage_error "--model is lenet or resnet20, not '$model'"
      shift
      ;;
    --data)
      data=$(value_of "$@")
      shift
      ;;
    --seeds)
      seeds=$(value_of "$@")
      need_number --seeds "$seeds"
      shift
      ;;
    --pairs)
      pairs=$(value_of "$@")
      need_number --pairs "$pairs"
      shift
      ;;
    --parameters)
      value=$(value_of "$@")
      need_number --parameters "$value"
      options+=(--parameters "$value")
      shift
      ;;
    --folder)
      value=$(value_of "$@")
      options+=(--folder "$(realpath -m -- "$value")")
      shift
      ;;
    trainer | accuracy | workers | codec | sessions | durability) benchmark=$1 ;;
    *.yaml) job=$1 ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done
[[ -n $benchmark ]] || usage_error "which benchmark?"
[[ -r $job ]] || die "cannot read the job's file $job"

# run_job FILE WORKERS: prints the job's run.json, or ends the benchmark with what went wrong.
run_job() {
  local log line
  log=$(mktemp)
  line=$("$top/scripts/quickstart.sh" "$1" --workers "$2" 2> "$log") || [[ $line == accuracy=* ]] || {
    tail -n 5 "$log" >&2
    die "the job failed"
  }
  rm -f "$log"
  cat "${line##*run=}"
}

# set_key KEY VALUE FILE: every "KEY: ..." on a line of its own says VALUE now.
set_key() {
  grep -qE "^ +$1: *[0-9]+" "$3" || die "the job has no line of its own for '$1'"
  sed -Ei "s/^( +)$1: *[0-9]+/\\1$1: $2/" "$3"
}

accuracy() {
  local seed results=()
  for ((seed = 1; seed <= seeds; seed++)); do
    cp "$job" "$folder/job.yaml"
    set_key seed "$seed" "$folder/job.yaml"
    results+=("$(run_job "$folder/job.yaml" "$(sed -nE 's/^ +workers: *([0-9]+).*/\1/p' "$job")")")
    jq -r '"seed \(.seed): accuracy \(.accuracy), training \(.training_seconds | . * 10 | round / 10) s, " +
      "stall \(.stall_fraction * 1000 | round / 10) %"' <<< "${results[-1]}" >&2
  done
  jq -cs '{job: .[0].name, seeds: length, accuracies: map(.accuracy), mean: (map(.accuracy) | add / length),
    min: (map(.accuracy) | min), training_seconds: map(.training_seconds)}' <<< "${results[*]}"
}

workers() {
  local pair count order results=()
  for ((pair = 0; pair < pairs; pair++)); do
    order=(1 2)
    ((pair % 2 == 0)) || order=(2 1)
    for count in "${order[@]}"; do
      sed '/^target:/d' "$job" > "$folder/job.yaml"
      set_key workers "$count" "$folder/job.yaml"
      set_key epochs 2 "$folder/job.yaml"
      results+=("$(run_job "$folder/job.yaml" "$count" | jq -c --argjson workers "$count" \
        '{workers: $workers, rate: (.samples / .training_seconds), stall: .stall_fraction}')")
      jq -r '"\(.workers) workers: \(.rate | round) samples/s, stall \(.stall * 1000 | round / 10) %"' \
        <<< "${results[-1]}" >&2
    done
  done
  jq -cs 'def median: sort | .[(length - 1) / 2 | floor];
    def rate(count): map(select(.workers == count) | .rate) | median;
    {one_samples_per_s: rate(1), two_samples_per_s: rate(2), ratio: (rate(2) / rate(1))}' <<< "${results[*]}"
}

if [[ $benchmark == accuracy || $benchmark == workers ]]; then
  need_tools jq
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  result=$($benchmark)
  if $json; then echo "$result"; else jq . <<< "$result"; fi
  exit
fi

if [[ $benchmark == trainer ]]; then
  options+=(--model "$model")
  [[ $model == lenet ]] || data=synthetic
fi
if [[ ($benchmark == trainer || $benchmark == codec) && $data != synthetic ]]; then
  [[ -d $data ]] || die "there is no folder '$data'"
  options+=(--data "$(cd "$data" && pwd)")
fi

cd "$top"
scripts/build.sh release "bench_$benchmark" >&2
exec "build/release/bin/bench_$benchmark" ${options[@]:+"${options[@]}"}
