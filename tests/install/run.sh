#!/usr/bin/env bash
# Installs the build into a temporary prefix and builds a consumer and the examples against it.
# usage: run.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
source_dir=$1
build_dir=$2
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install "$build_dir" --prefix "$prefix" >/dev/null

# Not optimized, which would take longer than what the programs compute.
build_against_prefix() {
  cmake -S "$1" -B "$prefix/build-$2" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O0 \
    -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_CXX_COMPILER_LAUNCHER=ccache >/dev/null
  cmake --build "$prefix/build-$2"
}

build_against_prefix "$source_dir/tests/install/consumer" consumer
"$prefix/build-consumer/consumer"
"$prefix/build-consumer/consumer_ops"
# The examples in one build: most of its time goes into LibTorch's headers, which they share precompiled.
mkdir "$prefix/examples"
cat >"$prefix/examples/CMakeLists.txt" <<EOF
cmake_minimum_required(VERSION 3.22)
project(examples LANGUAGES CXX)
find_package(tsquant REQUIRED)
file(GLOB folders "$source_dir/examples/*/CMakeLists.txt")
foreach(folder IN LISTS folders)
  get_filename_component(folder "\${folder}" DIRECTORY)
  get_filename_component(name "\${folder}" NAME)
  add_subdirectory("\${folder}" "\${name}")
  if(first)
    target_precompile_headers("\${name}" REUSE_FROM "\${first}")
  else()
    target_precompile_headers("\${name}" PRIVATE <torch/script.h>)
    set(first "\${name}")
  endif()
endforeach()
EOF
build_against_prefix "$prefix/examples" examples

# The README's program and commands must run as printed.
readme_block() {  # readme_block cpp|sh
  awk -v mark="<!-- run: $1 -->" '$0 == mark { wanted = 1; next } wanted && /^```/ { if (inside) exit; inside = 1; next }
    inside' "$source_dir/README.md"
}
mkdir -p "$prefix/readme/run"
readme_block cpp >"$prefix/readme/main.cpp"
readme_block sh >"$prefix/readme/run/commands.sh"
[ -s "$prefix/readme/main.cpp" ] && [ -s "$prefix/readme/run/commands.sh" ]
cat >"$prefix/readme/CMakeLists.txt" <<'EOF'
cmake_minimum_required(VERSION 3.22)
project(app LANGUAGES CXX)
find_package(tsquant REQUIRED)
add_executable(app main.cpp)
target_compile_features(app PRIVATE cxx_std_17)
target_link_libraries(app PRIVATE tsquant::tsquant)
EOF
build_against_prefix "$prefix/readme" readme
(cd "$prefix/readme/run" && PATH="$prefix/bin:$PATH" bash -euo pipefail commands.sh)
"$prefix/build-readme/app" "$prefix/readme/run/demo/fp32.pt" "$prefix/app_int8.pt"

# A quantizer of the user's own, compiled in and from a shared library: the same file.
custom="$prefix/build-examples/custom_quantizer"
"$custom/custom_quantizer" "$prefix/readme/run/demo/fp32.pt" "$prefix/own.pt" 1,1,24,24
"$custom/custom_quantizer" "$prefix/readme/run/demo/fp32.pt" "$prefix/plugin.pt" 1,1,24,24 \
  "$custom/liblinear_only_quantizer.so"
cmp "$prefix/own.pt" "$prefix/plugin.pt"

# A program that links LibTorch only runs the lowered file once it has loaded the operator library.
"$prefix/build-examples/run_int8_cpp/run_int8_cpp" "$prefix/app_int8.pt" "$(ls "$prefix"/lib*/libtsquant_ops.so \
  "$prefix"/lib/*/libtsquant_ops.so 2>/dev/null | head -1)" 1,1,24,24
PKG_CONFIG_PATH="$prefix/lib/pkgconfig:$(echo "$prefix"/lib/*/pkgconfig)" pkg-config --modversion tsquant
"$prefix/bin/tsquant" --version
echo "install test passed"
