#include "lowering/engines/trial.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <unordered_set>

#include "base/error_text.h"
#include "graph/node_lists.h"
#include "graph/tensor_values.h"
#include "run/tap_runner.h"
#include "tsquant/error.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// Share of the codes that may differ by one, which rounding ties do: of a tensor of five of torchvision's networks
/// below 0.01 %, but for one code of 1,280.
constexpr double kLargestShareOfTies = 0.001;
/// Largest difference of float results, relative to the largest one and to what their sums are made of: the reference
/// form adds floats, in an order of its own, and terms may cancel out.
constexpr double kLargestFloatError = 1e-3, kLargestRoundingError = 1e-5;

at::Tensor dequantized(const at::Tensor& x) { return x.is_quantized() ? x.dequantize() : x; }

/// The bytes of a tensor of codes as integers, in its own memory layout.
at::Tensor bytes_of(const at::Tensor& codes) {
  const auto type = codes.scalar_type() == at::kQUInt8 ? at::kByte : at::kChar;
  return at::from_blob(codes.data_ptr(), codes.sizes(), codes.strides(), type);
}

/// Compares codes with the real values that they should stand for; writes the expected codes over them.
/// @param tie how far a single tie may move a code
std::string compare_codes(const at::Tensor& codes, const at::Tensor& expected, double tie) {
  const bool is_unsigned = codes.scalar_type() == at::kQUInt8;
  at::Tensor bytes = bytes_of(codes);
  const at::Tensor wanted = at::round(dequantized(expected).to(at::kDouble) / codes.q_scale())
                                .add(static_cast<double>(codes.q_zero_point()))
                                .clamp(is_unsigned ? 0 : -128, is_unsigned ? 255 : 127);
  const at::Tensor apart = (bytes.to(at::kDouble) - wanted).abs();
  const double largest = apart.max().item<double>(), share = apart.ne(0).to(at::kDouble).mean().item<double>();
  // What reads the result must not inherit the fault.
  if (largest > 0) bytes.copy_(wanted.to(bytes.scalar_type()));
  if (largest > tie) {
    return fmt::format("its integer result is up to {:.0f} codes from the reference on the first sample", largest);
  }
  // One or two ties are a large share of a tiny tensor.
  if (share * static_cast<double>(codes.numel()) > 2 && share > kLargestShareOfTies) {
    return fmt::format("{:.2g} % of its integer results differ from the reference on the first sample", 100 * share);
  }
  return "";
}

/// @param magnitude what sums are made of: they can cancel out, their rounding cannot
std::string compare_floats(const at::Tensor& result, const at::Tensor& expected, double magnitude) {
  const at::Tensor want = dequantized(expected).to(at::kDouble), got = result.to(at::kDouble);
  const at::Tensor apart = (got - want).abs(), finite = at::isfinite(want);
  if (!at::equal(finite, at::isfinite(got))) return "its result is infinite or no number on the first sample";
  const at::Tensor zero = at::zeros({}, at::kDouble);
  const double largest = at::where(finite, want.abs(), zero).max().item<double>();
  const double error = at::where(finite, apart, zero).max().item<double>();
  if (error > std::max(kLargestFloatError * largest, kLargestRoundingError * magnitude) + 1e-30) {
    return fmt::format("its result differs by {:.3g} of {:.3g} from the reference on the first sample", error, largest);
  }
  return "";
}

std::string compare(const at::Tensor& result, const at::Tensor& expected, const Work& work) {
  if (result.sizes() != expected.sizes()) {
    return fmt::format("its result has the shape [{}] instead of [{}]", fmt::join(result.sizes(), ", "),
                       fmt::join(expected.sizes(), ", "));
  }
  if (result.numel() == 0) return "";
  return result.is_quantized() ? compare_codes(result, expected, work.tie)
                               : compare_floats(result, expected, work.magnitude);
}

/// The taps of one trial: results to compare, and for every operator one operand, so that an operator that fails is
/// known.
struct Taps {
  std::vector<TapPoint> points;
  std::vector<size_t> compared;      ///< number of the reference value for the first points
  std::vector<Work> works;           ///< the same: what the operators compute
  std::vector<const Node*> entered;  ///< node for the rest
};

bool can_tap(const Value* value) {
  return value->type()->kind() == c10::TypeKind::TensorType && !value->uses().empty() && !value->mustBeNone() &&
         !may_be_uninitialized(value);
}

Taps make_taps(const Model& lowered, const LoweringContext& context) {
  Taps taps;
  const auto nodes = all_nodes(lowered.graph()->block());
  for (const Node* node : nodes) {
    for (const Value* output : node->outputs()) {
      const auto number = context.original_of(output);
      if (!context.is_lowered(output) || !number || !can_tap(output)) continue;
      if (context.reference().tensors[*number].empty()) continue;
      taps.points.push_back({output, {nullptr, 0}});
      taps.compared.push_back(*number);
      taps.works.push_back(context.work_of(output));
    }
  }
  for (Node* node : nodes) {
    for (size_t i = 0; i < node->inputs().size(); ++i) {
      if (!can_tap(node->input(i)) || node->kind() == c10::prim::GetAttr) continue;
      taps.points.push_back({node->input(i), {node, i}});
      taps.entered.push_back(node);
      break;
    }
  }
  return taps;
}

/// The lowered values that an operator's failure can be due to: its own results, else the nearest ones above it.
void blame(const LoweringContext& context, const Node* node, const std::string& reason, KeptValues& kept) {
  std::vector<const Node*> todo = {node};
  std::unordered_set<const Node*> done;
  while (!todo.empty()) {
    const Node* here = todo.back();
    todo.pop_back();
    if (!done.insert(here).second) continue;
    bool lowered = false;
    for (const Value* output : here->outputs()) {
      const auto number = context.original_of(output);
      if (!context.is_lowered(output) || !number) continue;
      kept.emplace(*number, reason);
      lowered = true;
    }
    if (lowered) continue;
    for (const Value* input : here->inputs()) todo.push_back(input->node());
  }
}

/// What the operator said, without the runner's words around it.
std::string operator_text(const std::exception& error) {
  const auto* ours = dynamic_cast<const Error*>(&error);
  const std::string text = ours != nullptr ? ours->message() : short_message(error);
  const auto colon = text.find(": ");
  const std::string said = ours != nullptr && colon != std::string::npos ? text.substr(colon + 2) : text;
  return said.substr(0, said.find('\n'));
}

}  // namespace

KeptValues try_out(const Model& lowered, const LoweringContext& context, const Sample& probe) {
  const Taps taps = make_taps(lowered, context);
  KeptValues kept;
  std::vector<size_t> turns(taps.compared.size(), 0);
  const Node* entered = nullptr;
  try {
    TapRunner(lowered, taps.points).run(probe, [&](size_t tap, const at::Tensor& tensor) {
      if (tap >= taps.compared.size()) {
        entered = taps.entered[tap - taps.compared.size()];
        return;
      }
      const size_t number = taps.compared[tap];
      const auto& expected = context.reference().tensors[number];
      if (turns[tap] >= expected.size() || !tensor.defined()) return;
      const std::string difference = compare(tensor, expected[turns[tap]++], taps.works[tap]);
      if (!difference.empty()) kept.emplace(number, difference);
    });
  } catch (const std::exception& error) {
    if (entered == nullptr) throw;
    blame(context, entered, "its kernel fails: " + operator_text(error), kept);
    if (kept.empty()) throw;
  }
  return kept;
}

}  // namespace tsquant
