#!/usr/bin/env bash
# Compares where quantizers go with what NNCF's OpenVINOQuantizer does, edge by edge.
# usage: check_placement.sh [--goldens DIR]                     all traces and variants of DIR (default:
#                                                               $TSQUANT_GOLDENS or ../shared/goldens/nncf)
#        check_placement.sh --trace T.pt --graph G.json --setup S.json [--loose]   one case of your own
#        check_placement.sh --torchvision NAME [--goldens DIR]  traces the model here instead of reading its trace
# The small traces in tests/data are always compared first (with golden_tests); the rest needs compare_placement.py in
# the goldens directory and is reported as skipped without it. Exits with 1 when any case differs.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! -x build/bin/tsquant ]; then
  echo "build/bin/tsquant is missing: run scripts/build.sh first" >&2
  exit 2
fi
if [[ " $* " != *" --trace "* ]]; then
  OMP_NUM_THREADS=1 build/bin/unit_quantizers --gtest_brief=1 --gtest_filter='*PlacementGolden*:*Pt2eGolden*'
  OMP_NUM_THREADS=1 build/bin/golden_tests --gtest_brief=1
fi
exec /usr/bin/python3 scripts/check_placement.py "$@"
