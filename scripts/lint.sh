#!/usr/bin/env bash
# Runs clang-tidy (.clang-tidy) over the library, the operators and the program, in the batches that they are compiled
# in: most of its time goes into LibTorch's headers. usage: lint.sh [BUILD], a folder that Clang built; default:
# build-sanitize
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build-sanitize}
/usr/bin/python3 - "$build" <<'PY' | xargs -P "$(nproc)" -n 1 clang-tidy-14 -p "$build" --quiet 2>/dev/null
import json, sys
for entry in json.load(open(f"{sys.argv[1]}/compile_commands.json")):
    name = entry["file"]
    ours = "/src/" in name or "/torch_ext/" in name
    if ours and "/tests/" not in name and "cmake_pch" not in name:
        print(name)
PY
echo "clang-tidy found nothing"
