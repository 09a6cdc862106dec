#include "graph/params.h"
#include "graph/walk.h"
#include "lowering/backends/lowering_state.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// An average over whole dimensions.
struct Average {
  std::vector<int64_t> dims;
  bool keepdim = true;
};

c10::optional<Average> read_average(const Model& model, const Node* node) {
  const std::string kind = node->kind().toQualString();
  if (kind == "aten::adaptive_avg_pool2d" || kind == "aten::adaptive_avg_pool3d") {
    const auto size = constant_of(model, node->input(1));
    if (!size || !size->isIntList()) return c10::nullopt;
    for (const int64_t n : size->toIntVector()) {
      if (n != 1) return c10::nullopt;
    }
    if (kind == "aten::adaptive_avg_pool2d") return Average{{-2, -1}, true};
    return Average{{-3, -2, -1}, true};
  }
  if (kind != "aten::mean" || node->inputs().size() != 4) return c10::nullopt;
  const auto dims = constant_of(model, node->input(1)), keep = constant_of(model, node->input(2));
  const auto dtype = constant_of(model, node->input(3));
  if (!dims || !dims->isIntList() || !keep || !keep->isBool() || !dtype || !dtype->isNone()) return c10::nullopt;
  return Average{dims->toIntVector(), keep->toBool()};
}

/// LibTorch's quantized pooling keeps the scale of its input, so the result is rounded with that scale first.
/// Followed by a quantizer with a finer scale that would lose precision; with an equal or coarser one it costs at most
/// one quantum.
void lower_keeping_scale(Lowering& lowering, Node* node, Value* codes, const FusedOutput& output) {
  const CodeParams params = lowering.params_of(codes);
  if (!output.quantized() || !output.absorbed.empty()) return lowering.refuse(node, "its result is used in float");
  if (output.params.scale < params.scale) {
    return lowering.refuse(node, "the integer kernel keeps the scale of its input, which is coarser than the result's");
  }
  sink_below(lowering, node, codes, {node->output()}, params);
}

void lower_one(Lowering& lowering, Node* node) {
  Value* codes = lowering.codes_of(node->input(0));
  if (codes == nullptr) return;
  const FusedOutput output = follow_output(lowering, node->output());
  const auto average = read_average(lowering.model(), node);
  if (!lowering.own_kernels() || !average || !output.quantized() || !output.absorbed.empty()) {
    return lower_keeping_scale(lowering, node, codes, output);
  }
  const std::string kernel = "tsquant::mean";
  Value* result =
      lowering.insert(node, kernel,
                      {codes, lowering.constant(node, average->dims), lowering.constant(node, average->keepdim),
                       lowering.constant(node, output.params.scale), lowering.constant(node, output.params.zero_point)},
                      node);
  lowering.record(node, kernel);
  replace_output(lowering, output, result, kernel);
  lowering.destroy(node);
}

}  // namespace

void lower_pooling(Lowering& lowering) {
  for (Node* node :
       nodes_of_kind(lowering.graph().block(), {"aten::avg_pool2d", "aten::avg_pool3d", "aten::adaptive_avg_pool2d",
                                                "aten::adaptive_avg_pool3d", "aten::mean"})) {
    lower_one(lowering, node);
  }
}

}  // namespace tsquant
