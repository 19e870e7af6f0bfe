#!/usr/bin/env bash
# Checks what the compiler does not: format, self-contained headers, the include table, cores without clock, thread or
# socket, shell scripts, the top level.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  echo "usage: scripts/tidy.sh"
  exit 0
fi

status=0
complain() {
  echo "tidy: $*" >&2
  status=1
}

mapfile -t sources < <(git ls-files '*.h' '*.cc' '*.cu' '*.cuh')
mapfile -t headers < <(git ls-files '*.h')

clang-format-14 --dry-run --Werror "${sources[@]}" || complain "run clang-format-14 -i on the files above"

# Headers compile alone. Only those that have changed since the last good run are compiled.
cuda_include=${CUDA_HOME:-/usr/local/cuda}/include
if [[ ! -e $cuda_include/cuda_runtime.h ]]; then
  echo "tidy: no CUDA headers (set CUDA_HOME): headers in cuda, test/simt, test/fakecuda and test/cuda are not compiled alone" >&2
  mapfile -t headers < <(git ls-files '*.h' ':!cuda' ':!test/simt' ':!test/fakecuda' ':!test/cuda')
elif [[ ! -e $cuda_include/cudnn.h ]]; then
  echo "tidy: no cudnn.h beside CUDA's headers: cuda/compute/libraries.h is not compiled alone" >&2
  mapfile -t headers < <(git ls-files '*.h' ':!cuda/compute/libraries.h')
fi
mkdir -p build/tidy
stamp=$(cat "${headers[@]}" | sha256sum | cut -d' ' -f1)
if [[ ! -e build/tidy/$stamp ]]; then
  if printf '%s\n' "${headers[@]}" | xargs -P 2 -I{} sh -c 'echo "#include \"{}\"" | g++ -std=c++20 -fsyntax-only -Wall -I. -isystem '"$cuda_include"' -x c++ -'; then
    touch "build/tidy/$stamp"
  else
    complain "a header does not compile alone"
  fi
fi

# The include table.
while IFS=: read -r folder allowed; do
  [[ $folder == \#* || -z $folder ]] && continue
  while IFS=: read -r file _ include; do
    [[ $file == *_main.cc ]] && continue
    target=$(dirname "${include#*\"}")
    target=${target%%\"*}
    [[ $target == common/compute/* ]] && target=common/compute
    case " $allowed " in
      *" $target "*) ;;
      *) complain "$file includes $target, which $folder may not (scripts/include_table.txt)" ;;
    esac
  done < <(git grep -n '^#include "' -- "$folder/*.h" "$folder/*.cc" "$folder/*.cu" "$folder/*.cuh" | grep -v '_generated.h')
done < scripts/include_table.txt

while read -r folder; do
  grep -q "^$folder:" scripts/include_table.txt || complain "$folder has no row in scripts/include_table.txt"
done < <(git ls-files 'common/*.h' 'server/*.h' 'worker/*.h' 'cuda/*.h' | xargs -n1 dirname | sed 's#^\(common/compute\)/.*#\1#' | sort -u)

cores=(server/shard server/coordinator worker/client common/protocol common/codec common/model)
pattern='system_clock|steady_clock|high_resolution_clock|gettimeofday|std::thread|std::jthread|std::mutex|std::async|<thread>|<mutex>|<future>|zmq|asio|socket\(|fstream|fopen|std::rand|random_device|mt19937'
if git grep -nE "$pattern" -- "${cores[@]/%//*.h}" "${cores[@]/%//*.cc}"; then
  complain "a core uses a clock, a thread, a socket, a file or another generator"
fi

if git grep -nE 'TODO|FIXME|XXX' -- '*.h' '*.cc' '*.cu' '*.cuh' '*.sh' '*.cmake' ':!scripts/tidy.sh'; then complain "unfinished marks"; fi

mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
shellcheck -x "${scripts[@]}" || complain "shellcheck"

allowed=' CMakeLists.txt CMakePresets.json server worker common cuda configs scripts test LICENSE README.md '
while read -r entry; do
  [[ $entry == .* || $allowed == *" $entry "* ]] || complain "$entry does not belong at the top level"
done < <(git ls-files | cut -d/ -f1 | sort -u)

((status == 0)) && echo "tidy: clean"
exit "$status"
