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

/// Whether it is the overload for padded sequences, in evaluation mode, and all of its shape is known.
bool is_plain(const Model& model, const Node* node) {
  const auto training = known(model, node, kTraining), layers = known(model, node, kLayers);
  return training && training->isBool() && !training->toBool() && layers && layers->isInt() &&
         known(model, node, kBiases) && known(model, node, kBothDirections) && known(model, node, kBatchFirst);
}

Packing packing_of_layers(const Model& model, const Node* node) {
  Packing packing;
  if (node->inputs().size() != kBatchFirst + 1 || node->input(kLayers)->type()->kind() != c10::TypeKind::IntType) {
    packing.obstacle = "the kernel takes padded sequences, no packed ones";
    return packing;
  }
  const Node* list = node->input(kWeights)->node();
  if (!is_plain(model, node) || list->kind() != c10::prim::ListConstruct) {
    packing.obstacle = "the kernel takes known weights and sizes, in evaluation mode";
    return packing;
  }
  packing.layers = known(model, node, kLayers)->toInt();
  packing.both = known(model, node, kBothDirections)->toBool();
  packing.batch_first = known(model, node, kBatchFirst)->toBool();
  const bool biases = known(model, node, kBiases)->toBool();
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

void replace_by_kernel(LoweringContext& context, Node* node, const std::string& kernel, const c10::IValue& params) {
  Value* packed = context.attribute(node, names_of(node).name, params);
  Node* fused = context.graph().create(c10::Symbol::fromQualString(kernel),
                                       {node->input(kInput), node->input(kStates), packed}, node->outputs().size());
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
  replace_by_kernel(context, node, row.kernel, params);
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
