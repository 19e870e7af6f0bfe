#!/usr/bin/env bash
# A data set of real pictures in CIFAR-10's binary version: parts of photographs of nature, which part belongs to which.
# Test images come from another part of each photograph than training images.
# Usage: BIN=FOLDER photographs.sh FOLDER TRAIN TEST [CLASSES]: leaves train.bin and test.bin there. CLASSES: 2 to 12, default 9.
set -euo pipefail
: "${BIN:?the folder of the program photographs}"
folder=${1:?a folder} train=${2:?how many training images} test=${3:?how many test images} classes=${4:-9}
source_folder=/usr/share/backgrounds/mate/nature # Debian's mate-backgrounds

if ! command -v djpeg > /dev/null || [[ ! -d $source_folder ]]; then
  echo "photographs.sh: djpeg or $source_folder is not there; scripts/bootstrap.sh installs both" >&2
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
files=()
for photograph in "$source_folder"/*.jpg; do
  ((${#files[@]} < classes)) || break
  files+=("$work/${#files[@]}.ppm")
  djpeg -ppm -scale 1/2 "$photograph" > "${files[-1]}"
done
((${#files[@]} == classes)) || {
  echo "photographs.sh: $source_folder has ${#files[@]} photographs, $classes are wanted" >&2
  exit 1
}
mkdir -p "$folder"
"$BIN/photographs" "$folder" "$train" "$test" 1 "${files[@]}"
