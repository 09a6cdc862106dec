#!/usr/bin/env bash
# Installs the build into a temporary prefix and builds a consumer and the examples against it.
# usage: run.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
source_dir=$1
build_dir=$2
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install "$build_dir" --prefix "$prefix" >/dev/null

build_against_prefix() {
  cmake -S "$1" -B "$prefix/build-$2" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix" \
    -DCMAKE_CXX_COMPILER_LAUNCHER=ccache >/dev/null
  cmake --build "$prefix/build-$2"
}

build_against_prefix "$source_dir/tests/install/consumer" consumer
"$prefix/build-consumer/consumer"
"$prefix/build-consumer/consumer_ops"
for example in "$source_dir"/examples/*/; do
  build_against_prefix "$example" "$(basename "$example")"
done
PKG_CONFIG_PATH="$prefix/lib/pkgconfig:$(echo "$prefix"/lib/*/pkgconfig)" pkg-config --modversion tsquant
"$prefix/bin/tsquant" --version
echo "install test passed"
