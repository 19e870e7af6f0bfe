#!/usr/bin/env bash
# scripts/wan_lab.sh prove: what ping, UDP and TCP of the kernel get across a lab's link, beside what its profile asks for.
set -euo pipefail
shopt -s inherit_errexit
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/../../scripts/lib/common.sh"
# shellcheck source=scripts/lib/wan.sh
source "$top/scripts/lib/wan.sh"

seconds=10
json=false
profiles=()
while (($# > 0)); do
  case $1 in
    --json) json=true ;;
    --seconds)
      seconds=$2
      shift
      ;;
    *) profiles+=("$1") ;;
  esac
  shift
done
((${#profiles[@]} > 0)) || profiles=(lan new-york-asuncion thin bad-day jittery)
((seconds >= 3)) || usage_error "--seconds wants at least 3"
need_lab_rights
need_tools jq ping iperf3 ss
build_programs nanduti_wan

set_lab "prove-$$"
folder=$(mktemp -d)
# shellcheck disable=SC2317 # called by trap
clean_up() {
  trap '' INT TERM
  lab_down
  rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# transfer IPERF ARGUMENTS...: from the workers to the server unless -R; leaves iperf3's JSON in $folder/transfer.json.
transfer() { in_workers_place iperf3 -c "$server_address" --json "$@" > "$folder/transfer.json"; }
of_transfer() { jq -r "$1" "$folder/transfer.json"; }

# pings: "P50 P99 MIN MAX" in ms, of one every 20 ms.
pings() {
  in_workers_place ping -n -i 0.02 -c $((seconds * 50)) "$server_address" > "$folder/ping" || true
  sed -nE 's/.* time=([0-9.]+) ms.*/\1/p' "$folder/ping" | sort -n |
    awk '{ t[NR] = $1 } END { print t[int((NR + 1) / 2)], t[int(NR * 0.99 + 0.5)], t[1], t[NR] }'
}

# cpu_now: "SECONDS CPU_SECONDS" of the link so far.
cpu_now() { ask_link status | jq -r '"\(.seconds) \(.cpu_seconds)"'; }

# tcp CONGESTION_CONTROL: "MBIT/S NAME" of one connection that does not ask for any congestion control, the first 2 s of
# it left out.
tcp() {
  lab_routes "$1"
  transfer -t $((seconds - 2)) -O 2
  of_transfer '"\(.end.sum_received.bits_per_second / 1e6) \(.end.sender_tcp_congestion)"'
}

prove() {
  local asked rate half p50 p99 least most loss_up loss_down up=null down=null since cpu
  local cubic cubic_name bbr bbr_name
  lab_up "$(profile_file_or_inline "$1")" 1
  asked=$(ask_link status | jq .profile)
  rate=$(jq '.up.rate_mbit_per_s // 0' <<< "$asked")
  note "$1: ping"
  read -r p50 p99 least most <<< "$(pings)"
  in_server_place iperf3 -s --json > /dev/null 2>&1 &
  sleep 0.3
  note "$1: UDP"
  half=$(jq -n "if $rate > 0 then $rate / 2 else 50 end")
  transfer -u -l 1400 -b "${half}M" -t "$seconds" --bidir
  loss_up=$(of_transfer '.end.sum.lost_percent')
  loss_down=$(of_transfer '.end.sum_bidir_reverse.lost_percent')
  since=$(cpu_now)
  if [[ $rate != 0 ]]; then
    transfer -u -l 1400 -b "$(jq -n "$rate * 1.2")M" -t $((seconds / 2 + 2)) --get-server-output
    up=$(of_transfer '[.server_output_json.intervals[].sum.bits_per_second] | sort | .[length / 2 | floor] / 1e6')
    transfer -u -l 1400 -b "$(jq -n "$rate * 1.2")M" -t $((seconds / 2 + 2)) -R
    down=$(of_transfer '[.intervals[].sum.bits_per_second] | sort | .[length / 2 | floor] / 1e6')
  fi
  cpu=$(awk '{ print ($4 - $2) / ($3 - $1) }' <<< "$since $(cpu_now)")
  note "$1: TCP"
  read -r cubic cubic_name <<< "$(tcp cubic)"
  read -r bbr bbr_name <<< "$(tcp bbr)"
  jq -n --arg profile "$1" --argjson asked "$asked" --argjson p50 "$p50" --argjson p99 "$p99" --argjson least "$least" \
    --argjson most "$most" --argjson loss_up "$loss_up" --argjson loss_down "$loss_down" --argjson up "$up" \
    --argjson down "$down" --argjson cubic "$cubic" --argjson bbr "$bbr" --argjson cpu "$cpu" \
    --arg names "$cubic_name $bbr_name" --argjson link "$(ask_link status)" '{
      $profile, asked: $asked, ping_ms: {$p50, $p99, min: $least, max: $most},
      udp_loss_percent: {up: $loss_up, down: $loss_down}, udp_mbit_per_s: {$up, $down},
      tcp_mbit_per_s: {$cubic, $bbr}, congestion_control_by_route: ($names | split(" ")),
      link_cpu_fraction: $cpu, late_ms_mean: $link.late_ms_mean, late_ms_max: $link.late_ms_max}'
  lab_down
}

results=()
for profile in "${profiles[@]}"; do
  result=$(prove "$profile")
  results+=("$result")
done
if $json; then
  jq -s '{profiles: .}' <<< "${results[*]}"
  exit
fi
{
  echo "profile|round trip asked|ping p50|ping p99|loss asked|up|down|rate asked|up|down|TCP cubic|TCP bbr|link's CPU"
  jq -sr '
    def ms: . * 10 | round / 10 | "\(.) ms";
    def percent: . * 100 | round / 100 | "\(.) %";
    def rate: if . == null then "-" else . * 10 | round / 10 | tostring end;
    .[] | .asked as $a | [
      .profile,
      ($a.up.jitter | if .distribution == "uniform" then "\($a.rtt_ms) +- \(.within_ms * 2) ms"
        else "\($a.rtt_ms) ms + lognormal" end),
      (.ping_ms.p50 | ms), (.ping_ms.p99 | ms), ($a.up.loss_percent | percent), (.udp_loss_percent.up | percent),
      (.udp_loss_percent.down | percent), ($a.up.rate_mbit_per_s | rate), (.udp_mbit_per_s.up | rate),
      (.udp_mbit_per_s.down | rate), (.tcp_mbit_per_s.cubic | rate), (.tcp_mbit_per_s.bbr | rate),
      (.link_cpu_fraction * 100 | percent)] | join("|")' <<< "${results[*]}"
} | awk -F '|' '{ for (i = 1; i <= NF; i++) { c[NR, i] = $i; if (length($i) > w[i]) w[i] = length($i) } n = NF }
  END { for (r = 1; r <= NR; r++) { line = ""; for (i = 1; i <= n; i++) line = line sprintf("%-" w[i] + 2 "s", c[r, i])
    sub(/ +$/, "", line); print line } }'
echo "rates in Mbit/s: UDP's of 1400 bytes lack 28 of 1428; TCP's are of one connection, the first 2 s left out"
