#!/usr/bin/env bash
# How well do compressed layers do on a text that they were not calibrated on? Mean relative errors of the layers'
# outputs with NNCF's GPTQ and with `--quality best`, in groups of 32, on the calibration text and on another one.
# Needs the kit (TSQUANT_KIT) and a release build. usage: held_out_errors.sh [windows=128]
set -euo pipefail
cd "$(dirname "$0")/.."
kit=${TSQUANT_KIT:-../shared/kit}
[ -d "$kit/models" ] || { echo "no kit: $kit"; exit 0; }
windows=${1:-128}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
model=$kit/models/charlm_llama.pt calibration=$kit/data/tinyshakespeare_calib.pt
compress() {  # compress MODE NAME options...
  local mode=$1 name=$2; shift 2
  build/bin/tsquant compress "$model" -o "$work/$name.$mode" --mode "$mode" --group-size 32 --data "$calibration" \
    --inputs tokens --limit "$windows" --subset-size "$windows" --no-resume --json "$work/report.json" "$@" 2>/dev/null
}
for mode in int4_sym int3_asym int2_asym; do
  compress $mode gptq --gptq
  compress $mode best --quality best
done
echo "| mode | text | gptq as NNCF | best | best / gptq |"
echo "| --- | --- | --- | --- | --- |"
table() {  # table TEXT DATA WINDOWS
  local text=$1 data=$2 count=$3 mode
  for mode in int4_sym int3_asym int2_asym; do
    build/bin/bench_layer_errors "$model" "$data" "$count" "$work/gptq.$mode" "$work/best.$mode" |
      sed 's/.*mean \([0-9.]*\),.*/\1/' | paste -s -d ' ' |
      awk -v mode=$mode -v text="$text" '{ printf "| %s | %s | %s | %s | %.2f |\n", mode, text, $1, $2, $2 / $1 }'
  done
}
table calibration "$calibration" "$windows"
table "not calibrated on" "$kit/data/tinyshakespeare_val_dev.pt" 435
