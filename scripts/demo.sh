#!/usr/bin/env bash
# Fresh Debian 12 to a quantized model: installs packages, builds, and runs the main job on an embedded example.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install_deps.sh
scripts/build.sh release tsquant_cli
build/bin/tsquant demo "$@"
