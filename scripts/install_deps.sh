#!/usr/bin/env bash
# Installs every Debian package that building, testing and the demo need.
set -euo pipefail
packages=(
  g++ clang-14 libclang-rt-14-dev cmake ninja-build ccache mold pkg-config
  libtorch-dev libgloo-dev libhwy-dev libopenblas0-pthread
  zlib1g-dev libjemalloc-dev libfmt-dev libgtest-dev libbenchmark-dev
  libcli11-dev nlohmann-json3-dev libvalijson-dev libopencv-imgcodecs-dev libopencv-imgproc-dev
  clang-format clang-tidy-14 graphviz python3-minimal
)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  run=()
  [ "$(id -u)" -eq 0 ] || run=(sudo)
  "${run[@]}" apt-get update -q
  DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"
fi
