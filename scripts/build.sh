#!/usr/bin/env bash
# Configures and builds. usage: build.sh [PRESET] [TARGET...]; the default preset is release.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
shift || true
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset" ${@:+--target "$@"}
