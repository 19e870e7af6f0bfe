#!/usr/bin/env bash
# Installs the packages that building, testing and running need, where they are missing.
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config ca-certificates git curl jq procps bsdextrautils iproute2 iputils-ping iperf3
  libboost1.81-dev libboost-json1.81-dev libboost-context1.81-dev libfmt-dev libflatbuffers-dev flatbuffers-compiler
  libzmq3-dev cppzmq-dev libyaml-cpp-dev libdnnl-dev ocl-icd-opencl-dev catch2 zlib1g-dev libsodium-dev libzstd-dev
  dataset-fashion-mnist mate-backgrounds libjpeg-turbo-progs clang-14 clang-format-14 libclang-rt-14-dev libomp-14-dev shellcheck
)

case "${1:-}" in
  -h | --help)
    echo "usage: scripts/bootstrap.sh"
    echo "Installs what Ñandutí needs with apt; on other systems it prints the packages' names."
    exit 0
    ;;
  "") ;;
  *)
    echo "bootstrap: unknown argument '$1' (see --help)" >&2
    exit 2
    ;;
esac

if ! command -v apt-get > /dev/null; then
  {
    echo "bootstrap: this system has no apt. Install these (Debian's names) with its own tool:"
    printf '  %s\n' "${packages[@]}"
  } >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${Status}' "$package" 2> /dev/null || true)
  [[ $status == "install ok installed" ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  echo "bootstrap: everything is there" >&2
  exit 0
fi

as_root=()
if ((EUID != 0)); then
  command -v sudo > /dev/null || {
    echo "bootstrap: run this as root, or install sudo; missing: ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
echo "bootstrap: installing ${missing[*]}" >&2
"${as_root[@]}" apt-get update -qq >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
