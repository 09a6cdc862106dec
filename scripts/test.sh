#!/usr/bin/env bash
# Installs packages, builds everything and runs every test.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install_deps.sh
scripts/build.sh release
# One thread for each test: timings stay comparable and two tests can run at once.
export OMP_NUM_THREADS=1
ctest --test-dir build --output-on-failure --no-tests=error -j 2 "$@"
