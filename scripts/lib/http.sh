# shellcheck shell=bash
# The coordinator's HTTP API. Wants common.sh.

server=${NANDUTI_SERVER:-http://127.0.0.1:7080}
http_status=
http_body=

# set_server URL: "host:port" will do as well.
set_server() {
  server=${1%/}
  [[ $server == *://* ]] || server=http://$server
}

# curl_server ARGUMENTS...: loopback never goes through a proxy.
curl_server() {
  curl -sS --connect-timeout 5 --noproxy "127.0.0.1,localhost,::1${no_proxy:+,$no_proxy}" "$@"
}

# http_call METHOD PATH [CURL ARGUMENTS...]: leaves the answer in http_status and http_body; fails if there is none.
http_call() {
  local method=$1 path=$2 answer
  shift 2
  http_status=
  http_body=
  answer=$(curl_server --max-time 30 -X "$method" -w '\n%{http_code}' "$@" "$server$path" 2> /dev/null) || return 1
  http_status=${answer##*$'\n'}
  http_body=${answer%$'\n'*}
}

# The server's own words for what went wrong.
http_error() {
  jq -er '.error | strings' <<< "$http_body" 2> /dev/null || echo "the server at $server answered $http_status"
}

no_server() {
  die "no server answers at $server: is nanduti-server running?"
}

# api METHOD PATH [CURL ARGUMENTS...]: http_call that ends the script unless all went well.
api() {
  http_call "$@" || no_server
  [[ $http_status == 2* ]] || die "$(http_error)"
}

# need_job_id ID
need_job_id() {
  [[ $1 =~ ^[A-Za-z0-9_-]+$ ]] || usage_error "'$1' is not a job's id"
}

# job_api METHOD ID [SUFFIX [CURL ARGUMENTS...]]: the same for one job.
job_api() {
  local method=$1 id=$2 suffix=${3:-}
  need_job_id "$id"
  http_call "$method" "/v1/jobs/$id$suffix" "${@:4}" || no_server
  [[ $http_status != 404 ]] || die "no job has the id $id at $server; scripts/job.sh list shows those it has"
  [[ $http_status == 2* ]] || die "$(http_error)"
}

# post_job FILE: submits a job; prints the server's complaint to stderr and fails if it is refused.
post_job() {
  local file=$1
  http_call POST /v1/jobs -H 'Content-Type: application/yaml' -H "X-Nanduti-Name: ${file//[^[:print:]]/_}" \
    --data-binary "@$file" || no_server
  if [[ $http_status != 2* ]]; then
    http_error >&2
    return 1
  fi
}
