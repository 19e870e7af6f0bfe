# shellcheck shell=bash
# shellcheck disable=SC2154 # top is from common.sh
# Labs: two network namespaces of their own joined by a link (bin/nanduti_wan). Wants common.sh. Nothing outside these
# namespaces is touched.

bin=${BIN:-$top/build/release/bin}
wan=$bin/nanduti_wan
# build_programs TARGET...: unless BIN names a folder where they are.
build_programs() { [[ -n ${BIN:-} ]] || "$top/scripts/build.sh" release "$@" >&2; }

labs_folder=/run/nanduti-wan
server_address=10.77.0.1
workers_address=10.77.0.2
link_start_seconds=10

lab=
# set_lab NAME: the lab that the functions below are about.
set_lab() {
  [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$ ]] || usage_error "a lab's name is 1 to 32 letters, digits, '-' and '_', not '$1'"
  lab=$1
  server_place=nanduti-$lab-server
  workers_place=nanduti-$lab-workers
  control=$labs_folder/$lab/control
}
# What puts a program on its CPUs, if workers have some of their own.
workers_cpus=()
other_cpus=()
# allowed_cpus: prints the numbers of those that this script may use, a line each.
allowed_cpus() {
  local part
  for part in $(taskset -cp $$ | sed 's/.*: //; s/,/ /g'); do seq "${part%-*}" "${part#*-}"; done
}
# keep_workers_apart: workers get all CPUs but the first, which the server and the link share.
keep_workers_apart() {
  local cpus
  mapfile -t cpus < <(allowed_cpus)
  ((${#cpus[@]} > 1)) || die "--workers-apart wants two CPUs; there is one"
  other_cpus=(taskset -c "${cpus[0]}")
  workers_cpus=(taskset -c "$(tail -n +2 < <(printf '%s\n' "${cpus[@]}") | paste -sd,)")
}
in_server_place() { nsenter "--net=/run/netns/$server_place" ${other_cpus[@]:+"${other_cpus[@]}"} "$@"; }
in_workers_place() { nsenter "--net=/run/netns/$workers_place" ${workers_cpus[@]:+"${workers_cpus[@]}"} "$@"; }

# why_no_lab: prints what this machine lacks; fails if it lacks nothing.
why_no_lab() {
  if ((EUID != 0)); then
    echo "root is needed to make network namespaces"
  elif ! command -v ip > /dev/null || ! command -v nsenter > /dev/null; then
    echo "the programs ip and nsenter are needed; scripts/bootstrap.sh installs them"
  elif ! mountpoint -q /; then
    echo "the root folder is no mount point (a chroot): ip netns does not work there"
  elif ! unshare --net true 2> /dev/null; then
    echo "no right to make network namespaces"
  elif ! unshare --net ip tuntap add dev probe mode tun 2> /dev/null; then
    echo "no TUN devices (/dev/net/tun)"
  else
    return 1
  fi
}

# need_lab_rights: ends the script with status 77 where there can be no lab.
need_lab_rights() {
  local why
  why=$(why_no_lab) || return 0
  note "no lab on this machine: $why"
  exit 77
}

# profile_file_or_inline PROFILE: prints what nanduti_wan takes for it.
profile_file_or_inline() {
  if [[ $1 == *=* ]]; then
    echo "$1"
  elif [[ $1 == *.yaml ]]; then
    realpath -e "$1" 2> /dev/null || die "there is no profile $1"
  elif [[ -r $top/configs/wan/$1.yaml ]]; then
    echo "$top/configs/wan/$1.yaml"
  else
    die "there is no profile '$1': allowed are $(cd "$top/configs/wan" && echo ./*.yaml | sed 's#\./##g; s#\.yaml##g'), a file, or rtt=180,loss=1 and the like"
  fi
}

lab_is_up() { [[ -d $labs_folder/$lab ]]; }
need_lab() { lab_is_up || die "there is no lab '$lab'; there are: $(lab_names | xargs)"; }
lab_names() {
  local folder
  for folder in "$labs_folder"/*/; do
    [[ ! -d $folder ]] || basename "$folder"
  done
}

# ask_link COMMAND...: prints the link's answer, a JSON object.
ask_link() { "$wan" ask "$control" "$@"; }

# lab_routes CONGESTION_CONTROL: TCP between the two sides uses it where a program asks for nothing else.
lab_routes() {
  local place
  for place in "$server_place=$server_address" "$workers_place=$workers_address"; do
    ip -n "${place%=*}" route replace 10.77.0.0/30 dev wan src "${place#*=}" congctl "$1" ||
      die "this kernel has no congestion control '$1': $(cat /proc/sys/net/ipv4/tcp_available_congestion_control)"
  done
}

# Whether this script has made the lab, and so may end it.
lab_is_ours=false
end_own_lab() { if $lab_is_ours; then lab_down; fi; }

# lab_up PROFILE SEED: the profile as nanduti_wan takes it.
lab_up() {
  local profile place end
  profile=$("$wan" profile "$1") || exit 1
  mkdir -p "$labs_folder"
  mkdir "$labs_folder/$lab" 2> /dev/null || die "lab '$lab' is there already; end it with: scripts/wan_lab.sh down --lab $lab"
  lab_is_ours=true
  for place in "$server_place" "$workers_place"; do
    ip netns add "$place"
    ip -n "$place" link set lo up
    # Nothing but what is sent on purpose; no transfer learns from one before.
    nsenter "--net=/run/netns/$place" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv4.tcp_no_metrics_save=1 2> /dev/null || true
  done
  setsid ${other_cpus[@]:+"${other_cpus[@]}"} "$wan" link "/run/netns/$server_place" "/run/netns/$workers_place" "$control" "$1" "$2" \
    > "$labs_folder/$lab/link.log" 2>&1 < /dev/null &
  echo $! > "$labs_folder/$lab/link.pid"
  end=$((SECONDS + link_start_seconds))
  until ask_link status > /dev/null 2>&1; do
    if ! kill -0 "$(cat "$labs_folder/$lab/link.pid")" 2> /dev/null || ((SECONDS > end)); then
      cat "$labs_folder/$lab/link.log" >&2
      lab_down
      die "the link does not start"
    fi
    sleep 0.05
  done
  for place in "$server_place=$server_address" "$workers_place=$workers_address"; do
    ip -n "${place%=*}" address add "${place#*=}/30" dev wan noprefixroute
    # Packets wait in the link's queue, never in the device's.
    ip -n "${place%=*}" link set wan mtu 1500 txqueuelen 20000 up
  done
  lab_routes "$(jq -r .congestion_control <<< "$profile")"
}

# lab_down: whatever there is of the lab.
lab_down() {
  local place pid
  for place in "$server_place" "$workers_place"; do
    [[ -e /run/netns/$place ]] || continue
    for pid in $(ip netns pids "$place"); do kill -KILL "$pid" 2> /dev/null || true; done
  done
  # Only if the number is still the link's.
  pid=$(cat "$labs_folder/$lab/link.pid" 2> /dev/null || true)
  if [[ -n $pid ]] && grep -qzF "$control" "/proc/$pid/cmdline" 2> /dev/null; then
    kill -KILL "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
  fi
  for place in "$server_place" "$workers_place"; do
    [[ ! -e /run/netns/$place ]] || ip netns delete "$place" || true
  done
  rm -rf "${labs_folder:?}/$lab"
  rmdir "$labs_folder" 2> /dev/null || true
}

# congestion_controls: prints "server NAME" and "workers NAME" for the TCP connections over the link, as they are now.
congestion_controls() {
  local known
  known=$(tr ' ' '|' < /proc/sys/net/ipv4/tcp_available_congestion_control)
  in_server_place ss -tinHO state established dst "$workers_address" | grep -oE "\s($known)\s" | sed 's/\s//g; s/^/server /' || true
  in_workers_place ss -tinHO state established dst "$server_address" | grep -oE "\s($known)\s" | sed 's/\s//g; s/^/workers /' || true
}
