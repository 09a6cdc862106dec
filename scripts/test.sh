#!/usr/bin/env bash
# Installs packages, builds everything and runs every test. TSQUANT_TESTS_FROM: a build folder whose tests of the library
# are run instead of being compiled again.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install_deps.sh
cmake --preset release -DTSQUANT_TESTS_FROM="${TSQUANT_TESTS_FROM:-}" >/dev/null
cmake --build --preset release
# One thread for each test: timings stay comparable and two tests can run at once.
export OMP_NUM_THREADS=1
ctest --test-dir build --output-on-failure --no-tests=error -j 2 "$@"
