#!/usr/bin/env bash
# How fast is a lowered FX model against torch.ao's own, converted, traced and frozen, with its fastest engine? One run,
# one thread, best of 15 in turns. Needs Debian's python3-torch and python3-torchvision. usage: fx_speed.sh [MODEL...]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
export OMP_NUM_THREADS=1
echo "| model | torch.ao, times float | tsquant, times float | tsquant, times torch.ao |"
echo "| --- | --- | --- | --- |"
[ $# -gt 0 ] || set -- resnet18 mobilenet_v2
for model in "$@"; do
  /usr/bin/python3 scripts/peers.py make "$model" "$folder"
  build/bin/tsquant prepare "$folder/float.pt" -o "$folder/prepared.pt" --data "$folder/calibration.pt" --inputs inputs \
    --batch-size 1 --quantizer fx --qconfig onednn --calibrate 8 >"$folder/log" 2>&1
  build/bin/tsquant convert "$folder/prepared.pt" -o "$folder/tsquant.pt" --form lowered >"$folder/log" 2>&1
  IFS='| ' read -r tsquant torchao _ _ against < <(/usr/bin/python3 scripts/peers.py run "$folder" \
    build/lib/libtsquant_ops.so "" 2>/dev/null)
  echo "| $model | $torchao | $tsquant | $against |"
done
