#include <limits>

#include "graph/names.h"
#include "graph/params.h"
#include "lowering/backends/lowering_state.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// Reads a number or None. Returns false for anything that is not constant.
bool read_bound(const Model& model, const Node* node, size_t input, c10::optional<double>& bound) {
  if (input >= node->inputs().size()) return true;
  const auto value = constant_of(model, node->input(input));
  if (!value) return false;
  if (value->isNone()) return true;
  if (!value->isScalar()) return false;
  bound = value->toScalar().toDouble();
  return true;
}

/// clamp(clamp(x, low, high), next_low, next_high) as one clamp; the later upper bound wins, as in aten::clamp.
void compose(FusedOutput& out, c10::optional<double> next_low, c10::optional<double> next_high) {
  const auto apply = [&](double v) {
    if (next_low) v = std::max(v, *next_low);
    if (next_high) v = std::min(v, *next_high);
    return v;
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double low = apply(out.low.value_or(-kInfinity)), high = apply(out.high.value_or(kInfinity));
  if (low > -kInfinity) out.low = low;
  if (high < kInfinity) out.high = high;
}

}  // namespace

bool clamp_bounds(const Model& model, const Node* node, c10::optional<double>& low, c10::optional<double>& high) {
  std::string kind = node->kind().toQualString();
  if (!kind.empty() && kind.back() == '_') kind.pop_back();
  if (kind == "aten::relu") {
    low = 0.0;
    return true;
  }
  if (kind == "aten::relu6") {
    low = 0.0;
    high = 6.0;
    return true;
  }
  if (kind == "aten::hardtanh" || kind == "aten::clamp") {
    return read_bound(model, node, 1, low) && read_bound(model, node, 2, high);
  }
  if (kind == "aten::clamp_min") return read_bound(model, node, 1, low);
  if (kind == "aten::clamp_max") return read_bound(model, node, 1, high);
  return false;
}

c10::optional<CodeParams> quantizer_params(const Model& model, const Node* node) {
  if (node->kind() != c10::Symbol::fromQualString("aten::quantize_per_tensor")) return c10::nullopt;
  const auto scale = constant_of(model, node->input(1)), zero_point = constant_of(model, node->input(2));
  const auto dtype = constant_of(model, node->input(3));
  if (!scale || !scale->isDouble() || !zero_point || !zero_point->isInt() || !dtype || !dtype->isInt()) {
    return c10::nullopt;
  }
  if (dtype->toInt() != static_cast<int64_t>(c10::kQUInt8)) return c10::nullopt;
  return CodeParams{scale->toDouble(), zero_point->toInt()};
}

Value* insert_clamp(Lowering& lowering, Node* position, Value* codes, const CodeParams& params,
                    c10::optional<double> low, c10::optional<double> high) {
  // LibTorch's kernel wants both bounds; the missing one is the end of the codes' range.
  const double lowest = static_cast<double>(-params.zero_point) * params.scale;
  const double highest = static_cast<double>(255 - params.zero_point) * params.scale;
  // QNNPACK's clamp writes channels-last data in the wrong order (LibTorch 1.13), so it gets another layout. Our own
  // engine runs under whatever engine LibTorch is set to.
  if (lowering.engine() == "qnnpack" || lowering.own_kernels()) {
    const auto contiguous = static_cast<int64_t>(c10::MemoryFormat::Contiguous);
    codes = lowering.insert(position, "aten::contiguous", {codes, lowering.constant(position, contiguous)}, nullptr);
  }
  return lowering.insert(
      position, "quantized::clamp",
      {codes, lowering.constant(position, low.value_or(lowest)), lowering.constant(position, high.value_or(highest))},
      position);
}

FusedOutput follow_output(Lowering& lowering, Value* value) {
  FusedOutput out;
  out.last = value;
  while (out.last->uses().size() == 1) {
    const auto use = out.last->uses()[0];
    c10::optional<double> low, high;
    if (use.offset != 0 || use.user->owningBlock() != value->node()->owningBlock() ||
        !clamp_bounds(lowering.model(), use.user, low, high)) {
      break;
    }
    compose(out, low, high);
    out.absorbed.push_back(use.user);
    out.last = use.user->output();
  }
  for (const auto& use : out.last->uses()) {
    const auto params = use.offset == 0 ? quantizer_params(lowering.model(), use.user) : c10::nullopt;
    if (!params || (out.quantized() && !(*params == out.params))) {
      out.quantizers.clear();
      break;
    }
    out.params = *params;
    out.quantizers.push_back(use.user);
  }
  return out;
}

void replace_output(Lowering& lowering, const FusedOutput& output, Value* result, const std::string& kernel) {
  if (output.quantized()) {
    lowering.set_codes(result, output.params);
    for (Node* quantizer : output.quantizers) {
      quantizer->output()->replaceAllUsesWith(result);
      lowering.destroy(quantizer);
    }
  } else {
    output.last->replaceAllUsesWith(result);
  }
  for (auto it = output.absorbed.rbegin(); it != output.absorbed.rend(); ++it) {
    lowering.record(*it, "fused into " + kernel);
    lowering.destroy(*it);
  }
}

}  // namespace tsquant
