#!/usr/bin/env bash
# Size, mean relative error of layers, and loss of a compressed language model by mode and method; prints a table.
# Needs the kit (TSQUANT_KIT) and a release build. usage: measure_compression.sh [MODEL]
set -euo pipefail
cd "$(dirname "$0")/.."
kit=${TSQUANT_KIT:-../shared/kit}
model=${1:-$kit/models/charlm_llama.pt}
[ -f "$model" ] || { echo "no model: $model"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
data="--data $kit/data/tinyshakespeare_calib.pt --inputs tokens --limit 128"
validation="--data $kit/data/tinyshakespeare_val_dev.pt --inputs tokens --metric perplexity"
loss_of() { build/bin/tsquant evaluate "$1" $validation | sed -n 's/.*(\([0-9.]*\) nats).*/\1/p'; }
float=$(loss_of "$model")
echo "| mode | method | size | mean layer error | loss over $float nats |"
echo "| --- | --- | --- | --- | --- |"
row() {
  local mode=$1 method=$2; shift 2
  build/bin/tsquant compress "$model" -o "$work/out.pt" --mode "$mode" --json "$work/report.json" "$@"
  local loss; loss=$(loss_of "$work/out.pt")
  python3 - "$work" "$mode" "$method" "$loss" "$float" "$(stat -c %s "$work/out.pt")" "$(stat -c %s "$model")" <<'PY'
import json, sys
work, mode, method, loss, base, size, whole = sys.argv[1:]
errors = [w["error_after"] for w in json.load(open(work + "/report.json"))["weights"] if w["ratio_defining"] or "int8" in mode]
print("| %s | %s | %.3f | %.5f | %+.4f |" % (mode, method, int(size) / int(whole), sum(errors) / len(errors), float(loss) - float(base)))
PY
}
row int8_asym plain
for mode in int4_sym int3_asym int2_asym; do
  row $mode plain --group-size 32
  row $mode "gptq (NNCF)" --group-size 32 --gptq $data
  row $mode best --group-size 32 --quality best $data
done
