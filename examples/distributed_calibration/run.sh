#!/usr/bin/env bash
# Starts all ranks of distributed_calibration on this machine and checks that they made the same model.
# usage: run.sh PROGRAM RANKS MODEL.pt SAMPLES.pt OUT.pt [default|minmax|histogram] [TIMEOUT_SECONDS]
# On several machines: start PROGRAM once per rank, with STORE on a shared file system.
set -euo pipefail
[ $# -ge 5 ] || { sed -n 3p "$0" >&2; exit 2; }
program=$1 ranks=$2 model=$3 samples=$4 out=$5
shift 5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pids=()
for ((rank = 0; rank < ranks; rank++)); do
  "$program" "$model" "$samples" "$work/$rank.pt" "$work/store" "$rank" "$ranks" "$@" &
  pids+=($!)
done
failed=0
for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
[ "$failed" -eq 0 ] || { echo "run.sh: a rank failed" >&2; exit 1; }
for ((rank = 1; rank < ranks; rank++)); do cmp "$work/0.pt" "$work/$rank.pt"; done
mv "$work/0.pt" "$out"
echo "$ranks ranks made the same model: $out"
