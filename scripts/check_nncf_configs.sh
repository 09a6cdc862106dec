#!/usr/bin/env bash
# Gives the configuration files of a checkout of NNCF (v2.16.0 has them) to the program and prints a table: every one
# with a section "compression" is checked, and with a section of quantization a small network is quantized with it.
# usage: check_nncf_configs.sh CHECKOUT [MODEL.pt DATA.pt [options of the data]...]     default: `tsquant demo`
# Exits with 1 when a file is refused, or one of schema_validation_bad_configs is not. Rules about operators may match
# nothing, since the network is another one than theirs.
set -euo pipefail
program=$(cd "$(dirname "$0")/.." && pwd)/${TSQUANT_BUILD:-build}/bin/tsquant
if [ ! -x "$program" ] || [ ! -d "${1:-}" ]; then
  echo "usage: check_nncf_configs.sh CHECKOUT [MODEL.pt DATA.pt [options]...]; $program must be built" >&2
  exit 2
fi
checkout=$(cd "$1" && pwd)
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ $# -eq 0 ]; then
  "$program" demo --dir "$work/demo" --quick >/dev/null 2>&1
  set -- "$work/demo/fp32.pt" "$work/demo/calibration.pt" --inputs images --normalize 0.5:0.25
fi
model=$1 data=$2
shift 2

files=0 quantized=0 wrong=0
printf '%-9s %-9s %8s  %-34s %s\n' checked quantized warnings algorithms file
while IFS= read -r file; do
  files=$((files + 1))
  checked=valid quantizes=- warnings=- algorithms=-
  if "$program" options --config "$checkout/$file" >"$work/listed" 2>"$work/why"; then
    algorithms=$(sed -n 's/^algorithms: //p' "$work/listed")
    warnings=$(grep -c '^warning: ' "$work/listed" || true)
    if [[ $algorithms == *quantization* ]]; then
      quantizes=yes
      quantized=$((quantized + 1))
      "$program" quantize "$model" -o "$work/out.pt" --data "$data" "$@" --limit 16 --lenient-rules \
        --config "$checkout/$file" >/dev/null 2>"$work/why" || quantizes=failed
    fi
  else
    checked=refused
  fi
  wanted=valid
  [[ $file == *schema_validation_bad_configs* ]] && wanted=refused
  printf '%-9s %-9s %8s  %-34s %s\n' "$checked" "$quantizes" "$warnings" "$algorithms" "$file"
  if [ $checked != $wanted ] || [ $quantizes = failed ]; then
    wrong=$((wrong + 1))
    sed 's/^/    /' "$work/why"
  fi
done < <(cd "$checkout" && grep -rl --include='*.json' '"compression"' examples tests | sort)
echo "$files files, $quantized quantized, $wrong wrong"
[ $wrong -eq 0 ]
