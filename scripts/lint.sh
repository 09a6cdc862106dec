#!/usr/bin/env bash
# Runs clang-tidy (.clang-tidy) over the library, the operators and the program, in the batches that they are compiled
# in: most of its time goes into LibTorch's headers. usage: lint.sh [BUILD], a folder that Clang built; default:
# build-sanitize
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build-sanitize}
sed -n 's/.*"file": "\(.*\)".*/\1/p' "$build/compile_commands.json" | grep -E '/(src|torch_ext)/' |
  grep -vE '/tests/|cmake_pch' | xargs -P "$(nproc)" -n 1 clang-tidy-14 -p "$build" --quiet 2>/dev/null
echo "clang-tidy found nothing"
