#!/usr/bin/env bash
# Submits a job to a running server.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/http.sh
source "$top/scripts/lib/http.sh"
# shellcheck source=scripts/lib/follow.sh
source "$top/scripts/lib/follow.sh"

usage() {
  cat << 'END'
usage: scripts/submit_job.sh JOB.yaml [--follow] [--server URL]
Submits a job and prints its id on stdout, alone. What is wrong with the job goes to stderr; then the exit status is 1.

  --follow      stay and show the job's progress on stderr until it is over; Ctrl-C leaves the job running.
                Exit status: 0 target met or none, 1 target missed, 2 failed, 3 cancelled
  --server URL  the coordinator (default: $NANDUTI_SERVER, or http://127.0.0.1:7080)
END
}

job=
follow=false
while (($# > 0)); do
  case $1 in
    -h | --help)
      usage
      exit 0
      ;;
    --follow) follow=true ;;
    --server)
      url=$(value_of "$@")
      set_server "$url"
      shift
      ;;
    -*) usage_error "unknown option '$1'" ;;
    *)
      [[ -z $job ]] || usage_error "one job at a time"
      job=$1
      ;;
  esac
  shift
done
[[ -n $job ]] || usage_error "which job?"
[[ -f $job && -r $job ]] || die "cannot read the job's file $job"
need_tools curl jq

post_job "$job" || exit 1
id=$(jq -er .id <<< "$http_body") || die "the server at $server took the job but named no id"
echo "$id"
if $follow; then follow_or_leave "$id" >&2; fi
