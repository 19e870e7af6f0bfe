#!/usr/bin/env bash
# Looks at jobs, workers and counters of a running server.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/http.sh
source "$top/scripts/lib/http.sh"
# shellcheck source=scripts/lib/follow.sh
source "$top/scripts/lib/follow.sh"

usage() {
  cat << 'END'
usage: scripts/job.sh COMMAND [--json] [--server URL]
  list         all jobs
  status ID    one job in full
  follow ID    show progress until the job is over; Ctrl-C leaves it running.
               Exit status: 0 target met or none, 1 target missed, 2 failed, 3 cancelled
  cancel ID    end a job
  tune ID FILE.yaml | KEY=VALUE ...
               change staleness and compression of a job that trains, from a round on that the answer names.
               FILE has the job's sections staleness and compression, or some of their keys; KEY is such a key
               (staleness.bound=8, compression.push.density=0.02); bound, local_steps and at_bound will do
  workers      who is there and who is gone, and for whom the gate waits. inc: number of the incarnation;
               entry, clock: rounds, its first and those settled; lease: samples lent to it
  counters     what the coordinator's process has carried and dropped, with reasons; those that are 0 are left out

  --json        print the server's JSON object (list, status, workers, counters)
  --server URL  the coordinator (default: $NANDUTI_SERVER, or http://127.0.0.1:7080)
END
}

# Lines of fields apart by tabs become columns.
columns() {
  awk -F '\t' '{
    for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) }
    if (NF > most) most = NF
  }
  END {
    for (row = 1; row <= NR; row++) {
      for (i = 1; i < most; i++) {
        printf "%s", cell[row, i]
        for (pad = length(cell[row, i]); pad < width[i] + 2; pad++) printf " "
      }
      print cell[row, most]
    }
  }'
}

list() {
  api GET /v1/jobs
  if $json; then
    jq . <<< "$http_body"
    return
  fi
  jq -r '
    ["id", "name", "state", "epoch", "accuracy", "samples/s", "workers"],
    (.jobs[] | [.id, .name, .state + (if .target_met == false then " (target missed)" else "" end),
                "\(.epoch)/\(.epochs)", (.accuracy // "-"), ((.samples_per_s // 0) | floor), (.workers // 0)])
    | map(tostring) | @tsv' <<< "$http_body" | columns
}

status() {
  job_api GET "$1"
  if $json; then
    jq . <<< "$http_body"
    return
  fi
  jq -r 'del(.figures) | .tuning |= if . == null then null else '"$tuning_text"' end
    | .evaluations |= if . == null or . == [] then null else
        "\(length), the last one after \(last.samples) samples: accuracy \(last.accuracy)" end
    | (.pipeline // {}) as $pipeline | del(.pipeline) + $pipeline | to_entries[] | [.key, (.value | if . == null then "-" else tostring end)] | @tsv' <<< "$http_body" | columns
}

# One tuning as people say it, of a job's .tuning.
tuning_text='"bound \(.bound // "none")\(if .auto_bound then " (auto)" else "" end), local_steps \(.local_steps)\(
  if .auto_local_steps then " (auto)" else "" end), from round \(.from_round)\(
  if .in_force then "" else ", as soon as every active worker has taken it" end): \(.why)"'

# KEY=VALUE arguments as YAML.
tuning_yaml() {
  local setting key
  for setting in "$@"; do
    [[ $setting =~ ^[a-z_.]+=[^[:space:]]+$ ]] || usage_error "'$setting' is neither a file nor KEY=VALUE"
    key=${setting%%=*}
    case $key in bound | bound_max | local_steps | local_steps_max | at_bound | age_power) key=staleness.$key ;; esac
    printf '%s\t%s\n' "$key" "${setting#*=}"
  done | LC_ALL=C sort | awk -F '\t' '{
    depth = split($1, path, ".")
    shared = 0
    while (shared < depth - 1 && shared < depth_before - 1 && path[shared + 1] == before[shared + 1]) shared++
    for (i = shared + 1; i <= depth; i++) printf "%*s%s:%s\n", 2 * (i - 1), "", path[i], (i == depth ? " " $2 : "")
    depth_before = split($1, before, ".")
  }'
}

tune() {
  local id=$1
  shift
  (($# > 0)) || usage_error "tune takes a file or KEY=VALUE arguments"
  local name=$1 yaml
  if (($# == 1)) && [[ -f $1 || $1 != *=* ]]; then
    [[ -r $1 ]] || die "there is no file '$1'"
    yaml=$(cat -- "$1")
  else
    name=arguments
    yaml=$(tuning_yaml "$@")
  fi
  job_api POST "$id" /tune -H 'Content-Type: application/yaml' -H "X-Nanduti-Name: ${name//[^[:print:]]/_}" \
    --data-binary @- <<< "$yaml"
  if $json; then
    jq . <<< "$http_body"
    return
  fi
  jq -r ".tuning | $tuning_text" <<< "$http_body"
}

# A line about the membership, a table of who is there and, if any, one of who was.
workers() {
  api GET /v1/workers
  if $json; then
    jq . <<< "$http_body"
    return
  fi
  jq -r '.membership | if . == null then "no job trains now" else
    "job \(.job): membership epoch \(.epoch), \(.active) active, smallest clock \(.smallest_clock // "-")" +
    (if .gate_waits_for == [] then "" else "; the gate waits for " + (.gate_waits_for | join(", ")) end) end' <<< "$http_body"
  jq -r '
    ["inc", "name", "site", "state", "device", "job", "entry", "clock", "lease", "gate", "samples/s", "stall", "last heard"],
    (.workers[] | [.order, .name, .site, .state, .device, .job // "-", .entry_clock // "-", .clock // "-",
                   if .leased_samples == 0 then "-" else .leased_samples end,
                   if .at_gate then "waits" elif .slowest then "slowest" else "-" end,
                   ((.samples_per_s // 0) | floor), "\((.stall_fraction // 0) * 100 | round)%",
                   "\((.last_heard_s // 0) | floor) s ago"])
    | map(tostring) | @tsv' <<< "$http_body" | columns
  jq -e '.gone == []' > /dev/null <<< "$http_body" || echo "gone:"
  jq -r '
    select(.gone != []) | ["inc", "name", "site", "job", "clock", "when", "why"],
    (.gone[] | [.order, .name, .site, .job // "-", .clock, "\(.seconds_ago | floor) s ago", .reason])
    | map(tostring) | @tsv' <<< "$http_body" | columns
  jq -r '.workers[] | select(.refusal) | "\(.name) is unable: \(.refusal)"' <<< "$http_body"
}

counters() {
  api GET /v1/counters
  if $json; then
    jq . <<< "$http_body"
    return
  fi
  jq -r '
    ["of", "counter", "count"],
    (({core: "transport"} + .transport), .cores[] | .core as $of | del(.core) | to_entries[]
     | select(.value != 0) | [$of, .key, .value])
    | map(tostring) | @tsv' <<< "$http_body" | columns
}

json=false
words=()
while (($# > 0)); do
  case $1 in
    -h | --help)
      usage
      exit 0
      ;;
    --json) json=true ;;
    --server)
      url=$(value_of "$@")
      set_server "$url"
      shift
      ;;
    -*) usage_error "unknown option '$1'" ;;
    *) words+=("$1") ;;
  esac
  shift
done
need_tools curl jq awk

# want N: the command takes N arguments.
want() {
  local command=${words[0]} given=$((${#words[@]} - 1))
  ((given == $1)) || usage_error "$command takes $1 argument(s), not $given"
}

case ${words[0]-} in
  list) want 0 && list ;;
  workers) want 0 && workers ;;
  counters) want 0 && counters ;;
  status) want 1 && status "${words[1]}" ;;
  follow) want 1 && follow_or_leave "${words[1]}" ;;
  tune)
    ((${#words[@]} > 1)) || usage_error "tune takes a job's id, and a file or KEY=VALUE arguments"
    tune "${words[@]:1}"
    ;;
  cancel)
    want 1
    job_api POST "${words[1]}" /cancel
    note "job ${words[1]} is being cancelled"
    ;;
  "") usage_error "no command" ;;
  *) usage_error "unknown command '${words[0]}'" ;;
esac
