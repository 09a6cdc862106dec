#!/usr/bin/env bash
# The FX flow on the kit's image classifiers with the default mappings, and on its text classifier with weights that are
# quantized or stored (text_mapping.json): how often the lowered model gives the float model's class, and its file's size
# relative to the float file. usage: fx_table.sh KIT_DIR
set -euo pipefail
cd "$(dirname "$0")/.."
kit=$1
program=build/bin/tsquant
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
data=(--inputs images --scale 255 --normalize 0.485,0.456,0.406:0.229,0.224,0.225)

# row MODEL MAPPING EVALUATION_OPTION...: converts what was prepared and evaluates it
row() {
  local model=$1 mapping=$2
  shift 2
  "$program" convert "$folder/prepared.pt" -o "$folder/int8.pt" --form lowered >"$folder/log" 2>&1
  "$program" evaluate "$folder/int8.pt" "$@" --reference "$kit/models/$model.pt" --json "$folder/result.json" 2>"$folder/log"
  local agreement float_bytes
  agreement=$(sed 's/.*"agreement":\([0-9.]*\).*/\1/' "$folder/result.json")
  float_bytes=$(stat -c %s "$kit/models/$model.pt")
  echo "| $model | $mapping | $agreement | $(awk "BEGIN { printf \"%.3f\", $(stat -c %s "$folder/int8.pt") / $float_bytes }") |"
}

echo "| model | mapping | agrees with float % | file |"
echo "| --- | --- | --- | --- |"
for model in cifar10_resnet20 cifar10_mobilenetv2; do
  for mapping in onednn x86; do
    "$program" prepare "$kit/models/$model.pt" -o "$folder/prepared.pt" --data "$kit/data/cifar10_calib.pt" \
      "${data[@]}" --batch-size 32 --quantizer fx --qconfig $mapping --calibrate 8 >"$folder/log" 2>&1
    row $model $mapping --data "$kit/data/cifar10_test_dev.pt" "${data[@]}" --labels labels --batch-size 100 --metric top1
  done
done
"$program" prepare "$kit/models/reddit_bytelstm.pt" -o "$folder/prepared.pt" --data "$kit/data/reddit_bytes_calib.pt" \
  --inputs bytes --quantizer fx --qconfig scripts/text_mapping.json >"$folder/log" 2>&1
row reddit_bytelstm text_mapping.json --data "$kit/data/reddit_bytes_test.pt" --inputs bytes --metric agreement
