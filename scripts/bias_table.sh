#!/usr/bin/env bash
# Prints what bias correction brings on the kit's image models as a Markdown table; exit code 1 when its bars fail.
# usage: bias_table.sh [KIT_DIR] [--ranges minmax|mean_minmax|histogram] [MODEL...]; takes 10 to 20 minutes
set -euo pipefail
cd "$(dirname "$0")/.."
kit=${1:-${TSQUANT_KIT:-../shared/kit}}
shift || true
export OMP_NUM_THREADS=1
exec build/bin/bench_bias_correction "$kit" "$@"
