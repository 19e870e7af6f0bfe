# shellcheck shell=bash
# What every script uses: where the tree is, and how to complain. Scripts exit 64 for arguments they do not understand,
# as 1 to 3 tell how a job ended.

# shellcheck disable=SC2034 # used by the scripts that source this
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

note() { echo "${0##*/}: $*" >&2; }

die() {
  note "$*"
  exit 1
}

usage_error() {
  note "$* (see --help)"
  exit 64
}

# value_of OPTION [VALUE]: prints VALUE, or ends the script because OPTION lacks it.
value_of() {
  if (($# < 2)) || [[ -z $2 ]]; then usage_error "$1 wants a value"; fi
  printf '%s\n' "$2"
}

# need_number OPTION TEXT
need_number() {
  [[ $2 =~ ^(0|[1-9][0-9]*)$ ]] || usage_error "$1 wants a whole number, not '$2'"
}

need_tools() {
  local tool
  for tool in "$@"; do
    command -v "$tool" > /dev/null || die "'$tool' is not installed; scripts/bootstrap.sh installs it"
  done
}
