#include <ATen/ATen.h>

#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

constexpr int64_t kUnitsPerVector = 8;  // kRecurrentUnits of torch_ext/kernels/recurrent_loops.h
constexpr size_t kTensorsOfDirection = 4;

/// Arguments of aten::lstm and aten::gru for padded sequences.
enum Argument : size_t {
  kInput,
  kStates,
  kWeights,
  kBiases,
  kLayers,
  kDropout,
  kTraining,
  kBothDirections,
  kBatchFirst
};

/// The weight or bias behind an element of the list; undefined: it is not known.
at::Tensor stored_tensor(const Model& model, const Value* value) {
  const Node* node = value->node();
  const bool is_stored = is_dequantizer(node);
  const auto param = param_of(model, is_stored ? node->input(0) : value);
  return param ? param->tensor : at::Tensor();
}

/// Whether each direction has two biases behind its two weights.
size_t tensors_of_direction(const Model& model, const Node* layer) {
  return constant_of(model, layer->input(kBiases))->toBool() ? kTensorsOfDirection : 2;
}

/// As tsquant::lstm_pack and tsquant::gru_pack take them, with zeros where there are no biases; empty: some are not
/// known, or the kernel does not take their shapes.
std::vector<at::Tensor> stored_tensors(const Model& model, const Node* layer) {
  const Node* list = layer->input(kWeights)->node();
  const size_t group = tensors_of_direction(model, layer);
  if (list->kind() != c10::prim::ListConstruct || list->inputs().size() % group != 0) return {};
  std::vector<at::Tensor> tensors;
  bool quantized = false;
  for (size_t i = 0; i < list->inputs().size(); ++i) {
    const Value* value = list->input(i);
    tensors.push_back(stored_tensor(model, value));
    if (!tensors.back().defined() || tensors.back().dim() == 0) return {};
    quantized |= is_dequantizer(value->node());
    if (group == 2 && i % 2 == 1) tensors.insert(tensors.end(), 2, at::zeros({tensors.back().size(0)}));
  }
  if (tensors.empty()) return {};
  const bool fits = quantized && tensors[1].dim() == 2 && tensors[1].size(1) % kUnitsPerVector == 0;
  return fits ? tensors : std::vector<at::Tensor>();
}

c10::optional<c10::IValue> known(const Model& model, const Node* node, size_t argument) {
  return constant_of(model, node->input(argument));
}

bool is_flag(const Model& model, const Node* node, size_t argument, bool wanted) {
  const auto flag = known(model, node, argument);
  return flag && flag->isBool() && flag->toBool() == wanted;
}

/// Whether it is the overload for padded sequences, in evaluation mode, and all of its shape is known.
bool is_plain(const Model& model, const Node* node) {
  if (node->inputs().size() != kBatchFirst + 1 || node->input(kLayers)->type()->kind() != c10::TypeKind::IntType) {
    return false;
  }
  const auto layers = known(model, node, kLayers);
  return is_flag(model, node, kTraining, false) && layers && layers->isInt() && known(model, node, kBiases) &&
         known(model, node, kBothDirections) && known(model, node, kBatchFirst);
}

bool lower_layers(LoweringContext& context, const EngineRow& row, Node* node) {
  const Model& model = context.model();
  if (!is_plain(model, node) || !context.may_lower(node, node->output(0))) return false;
  const auto tensors = stored_tensors(model, node);
  const auto count = static_cast<int64_t>(tensors.size() / kTensorsOfDirection);
  const int64_t layers = known(model, node, kLayers)->toInt();
  const c10::IValue both = *known(model, node, kBothDirections);
  if (tensors.empty() || count != layers * (both.toBool() ? 2 : 1)) {
    context.refuse(node, "the kernel takes known weights without projections, and multiples of 8 units");
    return false;
  }
  const c10::IValue params =
      call_operator(std::string(row.kernel) + "_pack", {tensors, layers, both, *known(model, node, kBatchFirst)});
  Value* packed = context.attribute(node, names_of(node).name, params);
  Node* fused = context.graph().create(c10::Symbol::fromQualString(row.kernel),
                                       {node->input(kInput), node->input(kStates), packed}, node->outputs().size());
  copy_names(node, fused);
  fused->setSourceRange(node->sourceRange());
  fused->insertBefore(node);
  for (size_t i = 0; i < node->outputs().size(); ++i) {
    fused->output(i)->copyMetadata(node->output(i));
    context.stands_for(fused->output(i), node->output(i));
    node->output(i)->replaceAllUsesWith(fused->output(i));
  }
  context.record(fused, row.kernel);
  context.destroy(node);
  return true;
}

}  // namespace

// aten::lstm(%x, %states, [dequantize(%w), ...], ...)   ->   tsquant::lstm(%x, %states, %packed)
// aten::gru(%x, %state, [dequantize(%w), ...], ...)     ->   tsquant::gru(%x, %state, %packed)
bool lower_recurrent(LoweringContext& context) {
  bool changed = false;
  for (const std::string op : {"lstm", "gru"}) {
    const EngineRow* row = context.engine().find(op);
    if (row == nullptr) continue;
    for (Node* node : nodes_of_kind(context.graph().block(), {"aten::" + op})) {
      changed |= lower_layers(context, *row, node);
    }
  }
  if (changed) context.remove_dead_code();
  return changed;
}

}  // namespace tsquant
