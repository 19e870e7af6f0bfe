#!/usr/bin/env bash
# Compares arms: jobs that differ in a few settings or in the link, each run with the same seeds.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/wan.sh
source "$top/scripts/lib/wan.sh"

usage() {
  cat << 'END'
usage: scripts/experiment.sh NAME [--seeds N] [--profile P] [--epochs N] [--arms A,B] [--job JOB.yaml] [--out DIR] [--json]
       scripts/experiment.sh quadratic [--out DIR] [--json]
       scripts/experiment.sh list
  NAME       configs/experiments/NAME.json: runs every arm with seeds 1 to N through scripts/wan_lab.sh, seed by seed, the arms
             in turns from the first and from the last. Leaves table.md, plot.svg, result.json and one file per run in DIR
  quadratic  the largest stable learning rate * curvature under delay, simulated, beside DESIGN's figures
  list       the experiments there are

  --seeds N    (default: 5)
  --profile P  in place of the arms' own link, for those that have one (lan stays lan)
  --epochs N   the jobs' training.epochs, in place of the experiment's
  --arms A,B   only these; all others are compared with the first (default: all)
  --job FILE   in place of the experiment's job
  --out DIR    (default: build/experiments/NAME)
  --json       stdout is the result as one JSON object, not the table
What DIR has is not run again, except what failed: after an interruption (Ctrl-C leaves a table of what there is) the same
command goes on. Results of other settings in DIR are an error. Exit status: 0, 1 if a run failed, 77 if this machine cannot
have a lab. BIN names a folder of programs that are built already, WAN_LAB a program to call in place of scripts/wan_lab.sh.
END
}

name=
seeds=5
profile=
epochs=
only=
job=
out=
json=false
while (($# > 0)); do
  case $1 in
    -h | --help)
      usage
      exit 0
      ;;
    --json) json=true ;;
    --seeds | --epochs)
      value=$(value_of "$@")
      need_number "$1" "$value"
      ((value > 0)) || usage_error "$1 wants at least 1"
      declare "${1#--}=$value"
      shift
      ;;
    --profile | --job | --out)
      value=$(value_of "$@")
      declare "${1#--}=$value"
      shift
      ;;
    --arms)
      only=$(value_of "$@")
      shift
      ;;
    -*) usage_error "unknown option '$1'" ;;
    *)
      [[ -z $name ]] || usage_error "one experiment at a time, not '$name' and '$1'"
      name=$1
      ;;
  esac
  shift
done
need_tools jq

# of_library EXPRESSION [ARGUMENTS...]: jq with scripts/lib/experiment.jq.
of_library() { jq -L "$top/scripts/lib" "include \"experiment\"; $1" "${@:2}"; }

# show: the table, or with --json the result.
show() { if $json; then cat "$out/result.json"; else cat "$out/table.md"; fi; }

list() {
  local file
  for file in "$top"/configs/experiments/*.json; do
    jq -r --arg name "$(basename "$file" .json)" '"\($name): \(.about)"' "$file"
  done
  echo "quadratic: what a quadratic bears under delay, by simulation, beside DESIGN's figures"
}

quadratic() {
  build_programs quadratic_experiment
  mkdir -p "$out"
  "$bin/quadratic_experiment" | of_library quadratic_result > "$out/result.json"
  of_library quadratic_table -r "$out/result.json" > "$out/table.md"
  of_library 'quadratic_plot | plot' -r "$out/result.json" > "$out/plot.svg"
  note "table, plot and figures are in $out"
  show
}

# ---- experiments with jobs ----

# take_arms: sets arms, arm_profile and lab_options; each arm's whole job and link go to $out/arms.
declare -A arm_profile
lab_options=()
take_arms() {
  local file=$top/configs/experiments/$name.json arm settings path
  [[ -r $file ]] || die "there is no experiment '$name'; there are: $(list | sed 's/:.*//' | xargs)"
  jq -e '(.job | type == "string") and (.arms | length > 0) and ([.arms[].name] | length == (unique | length)) and
    ([.arms[] | (.profile | type == "string") and (.name | test("^[A-Za-z0-9_-]+$"))] | all)' "$file" > /dev/null ||
    die "$file wants job, and arms with a profile and a name each: letters, digits, '-' and '_', no name twice"
  mapfile -t arms < <(jq -r --arg only "$only" '.arms[].name | select($only == "" or IN($only | split(",")[]))' "$file")
  for arm in ${only//,/ }; do
    [[ " ${arms[*]} " == *" $arm "* ]] || usage_error "no arm is called '$arm'; there are: $(jq -r '[.arms[].name] | join(" ")' "$file")"
  done
  path=${job:-$top/$(jq -r .job "$file")}
  [[ $(jq -r .workers_apart "$file") != true ]] || lab_options=(--workers-apart)
  for arm in "${arms[@]}"; do
    arm_profile[$arm]=$(jq -r --arg arm "$arm" '.arms[] | select(.name == $arm).profile' "$file")
    [[ -z $profile || ${arm_profile[$arm]} == lan ]] || arm_profile[$arm]=$profile
    mapfile -t settings < <(jq -r --arg arm "$arm" --arg epochs "$epochs" '(.set // {}) + (.arms[] | select(.name == $arm) | .set // {})
      + (if $epochs == "" then {} else {"training.epochs": $epochs} end) | to_entries[] | "\(.key)=\(.value)"' "$file")
    keep_settings "$arm" yaml "$wan" job "$path" ${settings[@]:+"${settings[@]}"}
    keep_settings "$arm" link "$wan" profile "$(profile_file_or_inline "${arm_profile[$arm]}")"
    keep_settings "$arm" lab echo "${lab_options[@]}"
  done
}

# keep_settings ARM SUFFIX COMMAND...: what it prints, in $out/arms; results of other settings there end the script.
keep_settings() {
  local file=$out/arms/$1.$2
  "${@:3}" > "$file.new" || exit 1
  if [[ -e $file ]] && ! cmp -s "$file" "$file.new" && compgen -G "$out/runs/$1.[0-9]*.json" > /dev/null; then
    rm "$file.new"
    die "$out has results of other settings for arm '$1': remove it, or give another --out"
  fi
  mv "$file.new" "$file"
}

# is_done RUN.json: it is there and has not failed.
is_done() { [[ -e $1 ]] && jq -e '.summary != null' "$1" > /dev/null; }

# lab_run ARM SEED: leaves summary, reason and the lab's exit status.
lab_run() {
  local log=$out/runs/$1.$2.log
  status=0
  # In the background, so that a signal to this script alone comes through at once.
  "$wan_lab" run "${arm_profile[$1]}" "$out/arms/$1.yaml" --seed "$2" --json ${lab_options[@]:+"${lab_options[@]}"} > "$out/runs/stdout" 2> "$log" {lock}>&- &
  lab_pid=$!
  wait "$lab_pid" || status=$?
  lab_pid=
  summary=null
  reason=
  if [[ $(jq -r .state "$out/runs/stdout" 2> /dev/null) == "done" ]]; then
    summary=$(cat "$out/runs/stdout")
  else
    reason=$(jq -r '.reason // empty' "$out/runs/stdout" 2> /dev/null || true)
    [[ -n $reason ]] || reason=$(tail -n 1 "$log")
    reason=${reason:-exit status $status}
  fi
}

# report: of the arms and seeds asked for, as far as they have run.
report() {
  # shellcheck disable=SC2016 # jq variables
  of_library 'map(select(.seed <= $seeds and (.arm | IN($ARGS.positional[])))) | result($experiment; $ARGS.positional)' -s \
    --arg experiment "$name" --argjson seeds "$seeds" "$out"/runs/*.[0-9]*.json --args "${arms[@]}" > "$out/result.json"
  of_library table -r "$out/result.json" > "$out/table.md"
  of_library 'accuracy_plot | plot' -r "$out/result.json" > "$out/plot.svg"
}

# seconds_to_go: an arm takes as long as it did the last time, one that has not run yet as long as the mean.
declare -A arm_todo arm_took
seconds_to_go() {
  local arm sum=0
  for arm in "${arms[@]}"; do sum=$((sum + arm_todo[$arm] * ${arm_took[$arm]:-$((spent / ran))})); done
  echo "$sum"
}

lab_pid=
# shellcheck disable=SC2317 # called by trap
interrupted() {
  trap '' INT TERM
  if [[ -n $lab_pid ]]; then
    kill -TERM "$lab_pid" 2> /dev/null || true
    wait "$lab_pid" || true
  fi
  note "interrupted; the same command goes on from here"
  if compgen -G "$out/runs/*.[0-9]*.json" > /dev/null; then report && show; fi
  exit "$1"
}

experiment() {
  local seed arm order record started todo=0 ran=0 spent=0 took failed=0 i
  wan_lab=${WAN_LAB:-$top/scripts/wan_lab.sh}
  [[ -n ${WAN_LAB:-} ]] || need_lab_rights
  build_programs nanduti_wan nanduti-server nanduti-worker
  export BIN=$bin
  mkdir -p "$out/arms" "$out/runs"
  exec {lock}> "$out/lock"
  flock -n "$lock" || die "another experiment is writing to $out"
  take_arms
  for arm in "${arms[@]}"; do
    arm_todo[$arm]=0
    for ((seed = 1; seed <= seeds; seed++)); do
      is_done "$out/runs/$arm.$seed.json" || arm_todo[$arm]=$((arm_todo[$arm] + 1))
    done
    todo=$((todo + arm_todo[$arm]))
  done
  note "$name: ${#arms[@]} arms, $seeds seeds, $todo runs to do; results in $out"
  trap 'interrupted 130' INT
  trap 'interrupted 143' TERM
  for ((seed = 1; seed <= seeds; seed++)); do
    order=("${arms[@]}")
    if ((seed % 2 == 0)); then
      order=()
      for ((i = ${#arms[@]} - 1; i >= 0; i--)); do order+=("${arms[i]}"); done
    fi
    for arm in "${order[@]}"; do
      record=$out/runs/$arm.$seed.json
      ! is_done "$record" || continue
      started=$SECONDS
      lab_run "$arm" "$seed"
      if ((status == 77)); then
        cat "$out/runs/$arm.$seed.log" >&2
        exit 77
      fi
      took=$((SECONDS - started))
      arm_took[$arm]=$took
      arm_todo[$arm]=$((arm_todo[$arm] - 1))
      spent=$((spent + took))
      ran=$((ran + 1))
      jq -n --arg arm "$arm" --argjson seed "$seed" --arg profile "${arm_profile[$arm]}" --arg reason "$reason" \
        --argjson status "$status" --argjson seconds "$took" --argjson summary "$summary" \
        '{$arm, $seed, $profile, $status, $seconds, reason: (if $reason == "" then null else $reason end), $summary}' \
        > "$record.new"
      mv "$record.new" "$record"
      note "$ran/$todo $arm, seed $seed: $(jq -r 'if .summary == null then "FAILED: \(.reason)" else
        "accuracy \(.summary.accuracy // 0 | . * 10000 | round / 10000), \(.seconds) s" end' "$record"); $(seconds_to_go) s to go"
    done
  done
  trap - INT TERM
  rm -f "$out/runs/stdout"
  report
  note "table, plot, figures and runs are in $out"
  show
  failed=$(jq '[.arms[].failed[]] | length' "$out/result.json")
  ((failed == 0))
}

case $name in
  "") usage_error "which experiment?" ;;
  list)
    list
    exit
    ;;
esac
[[ $name =~ ^[A-Za-z0-9_-]+$ ]] || usage_error "'$name' is no experiment's name"
out=${out:-$top/build/experiments/$name}
if [[ $name == quadratic ]]; then quadratic; else experiment; fi
