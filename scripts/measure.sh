#!/usr/bin/env bash
# Measures what README.md claims: accuracy on the kit's real data, speed, size and time. Prints a table.
# usage: measure.sh [KIT_DIR]; skips what needs the kit or python3-torchvision when they are absent.
set -euo pipefail
cd "$(dirname "$0")/.."
kit=${1:-${TSQUANT_KIT:-../shared/kit}}
tsquant=build/bin/tsquant
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
normalize=0.485,0.456,0.406:0.229,0.224,0.225
images=(--inputs images --scale 255 --normalize "$normalize")

field() { python3 -c 'import json,sys; d=json.load(open(sys.argv[1]))
for k in sys.argv[2].split("."): d = d[int(k)] if k.isdigit() else d[k]
print(round(d, 4) if isinstance(d, float) else d)' "$1" "$2"; }

evaluate() {  # evaluate MODEL REFERENCE OUT
  "$tsquant" evaluate "$1" --data "$kit/data/cifar10_test_dev.pt" "${images[@]}" --labels labels --metric top1 \
    --batch-size 50 --reference "$2" --json "$3" 2>/dev/null
}

image_model() {  # image_model NAME [quantize options...]
  local name=$1 float="$kit/models/$1.pt"
  shift
  for form in reference decomposed lowered; do
    "$tsquant" quantize "$float" -o "$work/$name.$form.pt" --data "$kit/data/cifar10_calib.pt" "${images[@]}" \
      --subset-size 300 --form "$form" "$@" --json "$work/q.json" 2>/dev/null
  done
  evaluate "$float" "$float" "$work/float.json"
  evaluate "$work/$name.reference.pt" "$float" "$work/ref.json"
  evaluate "$work/$name.lowered.pt" "$work/$name.reference.pt" "$work/low.json"
  echo "| $name | top-1 float $(field "$work/float.json" value) %, reference $(field "$work/ref.json" value) %;" \
    "agrees with float $(field "$work/ref.json" agreement) %; lowered agrees with reference" \
    "$(field "$work/low.json" agreement) %; file $(stat -c %s "$work/$name.lowered.pt") / $(stat -c %s "$float") bytes |"
}

echo "| model | measured |"
echo "| --- | --- |"
if [ -d "$kit/models" ]; then
  for name in cifar10_resnet20 cifar10_mobilenetv2 cifar10_mobilenetv2_scripted; do image_model "$name"; done
fi
if /usr/bin/python3 -c 'import torchvision' 2>/dev/null; then
  /usr/bin/python3 scripts/make_torchvision_trace.py resnet18 "$work/resnet18.pt"
  build/bin/bench_quantize_time "$work/resnet18.pt" 1,3,224,224 300 >"$work/time.json" ||
    echo "bench_quantize_time: a limit is not kept" >&2
  echo "| resnet18 | quantize_pt2e, 300 samples: $(field "$work/time.json" ratio) x the time of 300 float passes;" \
    "peak memory $(field "$work/time.json" peak_bytes) bytes (limit $(field "$work/time.json" peak_limit_bytes)) |"
  # Float (optimize_for_inference) and lowered in turns, on this processor and as on one with AVX2 alone, LibTorch included.
  avx2=(TSQUANT_MAX_ISA=avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 DNNL_MAX_CPU_ISA=AVX2)
  for name in resnet18 resnet50 mobilenet_v2 mobilenet_v3_large; do
    /usr/bin/python3 scripts/make_torchvision_trace.py "$name" "$work/$name.pt"
    here=$(build/bin/bench_lowered_model "$work/$name.pt" --runs 25 2>/dev/null | grep '^engine')
    lesser=$(env "${avx2[@]}" build/bin/bench_lowered_model "$work/$name.pt" --runs 25 2>/dev/null | grep '^engine')
    echo "| $name | this processor: ${here#engine tsquant: }; AVX2 alone: ${lesser#engine tsquant: } |"
  done
fi
build/bin/bench_annotate_scale --benchmark_repetitions=5 >"$work/scale.txt" 2>/dev/null ||
  echo "bench_annotate_scale: a limit is not kept" >&2
scale() { sed -n "s/^$1: \([0-9.e-]*\).*/\1/p" "$work/scale.txt"; }
echo "| chain with branches | OpenVINOQuantizer::annotate: 100,000 operators in $(scale 'annotate 100000 operators, s') s;" \
  "time per operator from 1,000 to 10,000 x $(scale 'annotate growth per operator 1k to 10k')," \
  "from 10,000 to 100,000 x $(scale 'annotate growth per operator 10k to 100k');" \
  "resnet50 $(scale 'resnet50, s') s |"
