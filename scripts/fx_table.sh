#!/usr/bin/env bash
# The FX flow on the kit's image classifiers: how often the lowered model gives the float model's class, with the default
# mappings. usage: fx_table.sh KIT_DIR
set -euo pipefail
cd "$(dirname "$0")/.."
kit=$1
program=build/bin/tsquant
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
data=(--inputs images --scale 255 --normalize 0.485,0.456,0.406:0.229,0.224,0.225)

echo "| model | mapping | agrees with float % |"
echo "| --- | --- | --- |"
for model in cifar10_resnet20 cifar10_mobilenetv2; do
  for mapping in onednn x86; do
    "$program" prepare "$kit/models/$model.pt" -o "$folder/prepared.pt" --data "$kit/data/cifar10_calib.pt" \
      "${data[@]}" --batch-size 32 --quantizer fx --qconfig $mapping --calibrate 8 >"$folder/log" 2>&1
    "$program" convert "$folder/prepared.pt" -o "$folder/int8.pt" --form lowered >"$folder/log" 2>&1
    "$program" evaluate "$folder/int8.pt" --data "$kit/data/cifar10_test_dev.pt" "${data[@]}" --labels labels \
      --batch-size 100 --metric top1 --reference "$kit/models/$model.pt" --json "$folder/result.json" 2>"$folder/log"
    agreement=$(sed 's/.*"agreement":\([0-9.]*\).*/\1/' "$folder/result.json")
    echo "| $model | $mapping | $agreement |"
  done
done
