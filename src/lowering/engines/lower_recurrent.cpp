#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

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

/// Arguments of aten::lstm and aten::gru. Packed sequences have one more in front, and none for the order of the axes.
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

/// Arguments of aten::lstm_cell and aten::gru_cell from the third on: weights, then biases or none.
constexpr size_t kCellWeights = 2, kCellBiases = 4;

/// What tsquant::lstm_pack and tsquant::gru_pack are given.
struct Packing {
  std::vector<at::Tensor> tensors;  ///< of each direction two weights and two biases
  int64_t layers = 1;
  bool both = false, batch_first = false;
  std::string obstacle;  ///< why the kernel does not take it; empty: it does
};

/// Adds a weight or bias of a direction.
void add_tensor(const Model& model, const Value* value, Packing& packing) {
  const bool is_stored = is_dequantizer(value->node());
  const auto param = param_of(model, is_stored ? value->node()->input(0) : value);
  if (!param || param->tensor.dim() == 0) packing.obstacle = "the kernel takes stored weights, these are computed";
  packing.tensors.push_back(param ? param->tensor : at::Tensor());
}

/// Zeros in the place of the biases of a direction.
void add_no_biases(Packing& packing) {
  const at::Tensor& weight = packing.tensors.back();
  if (packing.obstacle.empty()) packing.tensors.insert(packing.tensors.end(), 2, at::zeros({weight.size(0)}));
}

void check_units(Packing& packing) {
  if (!packing.obstacle.empty()) return;
  const at::Tensor& hidden = packing.tensors[1];
  if (hidden.dim() == 2 && hidden.size(1) % kUnitsPerVector == 0) return;
  packing.obstacle = fmt::format("the kernel takes multiples of {} units", kUnitsPerVector);
}

c10::optional<c10::IValue> known(const Model& model, const Node* node, size_t argument) {
  return constant_of(model, node->input(argument));
}

/// Whether it is the overload for packed sequences: (data, batch_sizes, states, weights, ...)
bool takes_packed(const Node* node) { return node->input(kWeights + 1)->type()->kind() == c10::TypeKind::ListType; }

/// The flags and numbers of layers, from the arguments behind the weights. False: some are not known.
bool read_sizes(const Model& model, const Node* node, size_t shift, Packing& packing, bool& biases) {
  const auto layers = known(model, node, kLayers + shift), training = known(model, node, kTraining + shift);
  const auto both = known(model, node, kBothDirections + shift), has_biases = known(model, node, kBiases + shift);
  if (!layers || !training || !both || !has_biases || training->toBool()) return false;
  packing.layers = layers->toInt();
  packing.both = both->toBool();
  biases = has_biases->toBool();
  if (shift > 0) return true;
  const auto batch_first = known(model, node, kBatchFirst);
  packing.batch_first = batch_first && batch_first->toBool();
  return batch_first.has_value();
}

Packing packing_of_layers(const Model& model, const Node* node) {
  Packing packing;
  bool biases = true;
  const size_t shift = takes_packed(node) ? 1 : 0;
  const Node* list = node->input(kWeights + shift)->node();
  if (!read_sizes(model, node, shift, packing, biases) || list->kind() != c10::prim::ListConstruct) {
    packing.obstacle = "the kernel takes known weights and sizes, in evaluation mode";
    return packing;
  }
  const size_t group = biases ? kTensorsOfDirection : 2, count = list->inputs().size();
  const size_t wanted = static_cast<size_t>(packing.layers) * (packing.both ? 2 : 1) * group;
  if (count != wanted) {
    packing.obstacle = count == wanted / group * (group + 1) ? "the kernel has no projections (proj_size)"
                                                             : "the number of weights does not fit the sizes";
    return packing;
  }
  for (size_t i = 0; i < count; ++i) {
    add_tensor(model, list->input(i), packing);
    if (!biases && i % 2 == 1) add_no_biases(packing);
  }
  check_units(packing);
  return packing;
}

Packing packing_of_cell(const Model& model, const Node* node) {
  Packing packing;
  for (size_t i = kCellWeights; i < kCellBiases; ++i) add_tensor(model, node->input(i), packing);
  if (node->input(kCellBiases)->mustBeNone()) {
    add_no_biases(packing);
  } else {
    for (size_t i = kCellBiases; i < kCellBiases + 2; ++i) add_tensor(model, node->input(i), packing);
  }
  check_units(packing);
  return packing;
}

/// Whether the operator reads a weight that is quantized.
bool reads_codes(const Node* node) {
  const auto is_stored = [](const Value* value) { return is_dequantizer(value->node()); };
  return std::any_of(node->inputs().begin(), node->inputs().end(), [&](const Value* value) {
    const auto parts = value->node()->inputs();
    const bool is_list = value->node()->kind() == c10::prim::ListConstruct;
    return is_list ? std::any_of(parts.begin(), parts.end(), is_stored) : is_stored(value);
  });
}

/// @param count first arguments, which the kernel takes as they are
void replace_by_kernel(LoweringContext& context, Node* node, size_t count, const std::string& kernel,
                       const c10::IValue& params) {
  auto inputs = node->inputs().slice(0, count).vec();
  inputs.push_back(context.attribute(node, names_of(node).name, params));
  Node* fused = context.graph().create(c10::Symbol::fromQualString(kernel), inputs, node->outputs().size());
  copy_names(node, fused);
  fused->setSourceRange(node->sourceRange());
  fused->insertBefore(node);
  for (size_t i = 0; i < node->outputs().size(); ++i) {
    fused->output(i)->copyMetadata(node->output(i));
    context.stands_for(fused->output(i), node->output(i));
    node->output(i)->replaceAllUsesWith(fused->output(i));
  }
  context.record(fused, kernel);
  context.destroy(node);
}

bool lower_one(LoweringContext& context, const EngineRow& row, const std::string& pack, Node* node, bool is_cell) {
  if (!reads_codes(node) || !context.may_lower(node, node->output(0))) return false;
  const Packing packing = is_cell ? packing_of_cell(context.model(), node) : packing_of_layers(context.model(), node);
  if (!packing.obstacle.empty()) {
    context.refuse(node, packing.obstacle);
    return false;
  }
  const c10::IValue params = call_operator(pack, {packing.tensors, packing.layers, packing.both, packing.batch_first});
  const size_t count = !is_cell && takes_packed(node) ? kStates + 2 : kStates + 1;
  replace_by_kernel(context, node, count, row.kernel, params);
  return true;
}

}  // namespace

// aten::lstm(%x, %states, [dequantize(%w), ...], ...)          ->   tsquant::lstm(%x, %states, %packed)
// aten::gru(%x, %state, [dequantize(%w), ...], ...)            ->   tsquant::gru(%x, %state, %packed)
// aten::lstm_cell(%x, %states, dequantize(%w), ..., %b, %c)    ->   tsquant::lstm_cell(%x, %states, %packed)
bool lower_recurrent(LoweringContext& context) {
  bool changed = false;
  for (const std::string layer : {"lstm", "gru"}) {
    for (const bool is_cell : {false, true}) {
      const std::string op = is_cell ? layer + "_cell" : layer;
      const EngineRow* row = context.engine().find(op);
      if (row == nullptr) continue;
      for (Node* node : nodes_of_kind(context.graph().block(), {"aten::" + op})) {
        changed |= lower_one(context, *row, "tsquant::" + layer + "_pack", node, is_cell);
      }
    }
  }
  for (Node* node : nodes_of_kind(context.graph().block(), {"aten::rnn_tanh_cell", "aten::rnn_relu_cell"})) {
    if (reads_codes(node)) context.refuse(node, "the kernels are those of LSTM and GRU");
  }
  if (changed) context.remove_dead_code();
  return changed;
}

}  // namespace tsquant
