#!/usr/bin/env bash
# Size, mean relative error of layers, and loss of compressed language models by mode and method; prints a table. Errors
# are those of the outputs on the calibration data (in brackets, where there are no data: of the weights).
# Needs the kit (TSQUANT_KIT) and a release build. usage: measure_compression.sh
set -euo pipefail
cd "$(dirname "$0")/.."
kit=${TSQUANT_KIT:-../shared/kit}
[ -d "$kit/models" ] || { echo "no kit: $kit"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
data="--data $kit/data/tinyshakespeare_calib.pt --inputs tokens --limit 128"
validation="--data $kit/data/tinyshakespeare_val_dev.pt --inputs tokens --metric perplexity"
loss_of() { build/bin/tsquant evaluate "$1" $validation | sed -n 's/.*(\([0-9.]*\) nats).*/\1/p'; }
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
row() {  # row NAME MODE METHOD options...
  local model="$kit/models/$1.pt" name=$1 mode=$2 method=$3; shift 3
  build/bin/tsquant compress "$model" -o "$work/out.pt" --mode "$mode" --json "$work/report.json" "$@" 2>/dev/null
  local loss; loss=$(loss_of "$work/out.pt")
  python3 - "$work" "$name" "$mode" "$method" "$loss" "$float" "$(stat -c %s "$work/out.pt")" "$(stat -c %s "$model")" <<'PY'
import json, sys
work, name, mode, method, loss, base, size, whole = sys.argv[1:]
weights = json.load(open(work + "/report.json"))["weights"]
errors = [w["error_after"] for w in weights if w["ratio_defining"] or "int8" in mode]
error = "%.5f" % (sum(errors) / len(errors))
if "plain" in method: error = "(%s)" % error
print("| %s | %s | %s | %.3f | %s | %+.4f |" % (name, mode, method, int(size) / int(whole), error, float(loss) - float(base)))
PY
}
echo "| model | mode | method | size | mean error of layers | loss over float |"
echo "| --- | --- | --- | --- | --- | --- |"
float=$(loss_of "$kit/models/charlm_llama.pt")
row charlm_llama int8_asym plain
row charlm_llama int8_asym "plain, dynamic activations" --dynamic-activations
for mode in int4_sym int3_asym int2_asym; do
  row charlm_llama $mode plain --group-size 32
  row charlm_llama $mode "plain, dynamic activations" --group-size 32 --dynamic-activations
  row charlm_llama $mode "gptq as NNCF" --group-size 32 --gptq $data
  row charlm_llama $mode best --group-size 32 --quality best $data
done
row charlm_llama int4_sym "best, all layers" --group-size 32 --quality best --all-layers $data
row charlm_llama int4_sym "best, per channel" --group-size -1 --quality best $data
row charlm_llama int2_asym "best, adapters of rank 8" --group-size 32 --quality best --lora-correction $data
float=$(loss_of "$kit/models/charlm_llama_outliers.pt")
row charlm_llama_outliers int4_sym "gptq as NNCF" --group-size 32 --gptq $data
row charlm_llama_outliers int4_sym best --group-size 32 --quality best $data
row charlm_llama_outliers int4_sym "best, per channel" --group-size -1 --quality best $data
