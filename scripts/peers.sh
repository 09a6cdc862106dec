#!/usr/bin/env bash
# tsquant's lowered files against the int8 of torch.ao (FX, converted, traced, frozen; its fastest engine) and of ONNX
# Runtime (tsquant's own placement as Q/DQ pairs, weights and biases stored as integers), all timed in turns in one run,
# on one thread, best of 15. Prints a table, and on the error stream the milliseconds and the
# processor's peak before and after: a run in which the two differ by more than 3 % says little.
# Needs Debian's python3-torch, python3-torchvision, python3-onnx, nodejs and npm. usage: peers.sh [MODEL...]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
export OMP_NUM_THREADS=1
node=$folder/node
npm install --prefix "$node" --ignore-scripts --no-audit --no-fund onnxruntime-node@1.20.1 >"$folder/log" 2>&1 || {
  echo "npm cannot install onnxruntime-node: the columns of ONNX Runtime stay empty" >&2
  node=
}
[ $# -gt 0 ] || set -- resnet18 resnet50 mobilenet_v2 mobilenet_v3_large vit_b_16 swin_t bert
echo "peak before: $(build/bin/bench_conv_kernels --peak) GMAC/s" >&2
echo "| model | tsquant int8, times float | torch.ao int8, times float | ONNX Runtime float, times float |" \
  "ONNX Runtime int8, times float | tsquant, times the best peer's int8 |"
echo "| --- | --- | --- | --- | --- | --- |"
for model in "$@"; do
  mkdir "$folder/$model"
  /usr/bin/python3 scripts/peers.py make "$model" "$folder/$model"
  for form in lowered fake_quantize; do
    [ $form = lowered ] && file=tsquant || file=$form
    build/bin/tsquant quantize "$folder/$model/float.pt" -o "$folder/$model/$file.pt" --form $form \
      --data "$folder/$model/calibration.pt" --inputs inputs --batch-size 1 >"$folder/log" 2>&1 || cat "$folder/log" >&2
  done
  [ -z "$node" ] || /usr/bin/python3 scripts/peers.py export "$folder/$model"
  echo "| $model | $(/usr/bin/python3 scripts/peers.py run "$folder/$model" build/lib/libtsquant_ops.so "$node") |"
  rm -r "${folder:?}/$model"
done
echo "peak after: $(build/bin/bench_conv_kernels --peak) GMAC/s" >&2
