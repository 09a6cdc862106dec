#!/usr/bin/env bash
# Fails when a C++ file is not formatted as .clang-format says. With --fix it formats instead.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=(--dry-run --Werror)
[ "${1:-}" = "--fix" ] && mode=(-i)
git ls-files --cached --others --exclude-standard -- '*.cpp' '*.h' | xargs clang-format "${mode[@]}"
