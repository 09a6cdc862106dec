#include <ATen/ATen.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/compressed/decompression_chain.h"
#include "lowering/compressed/fuse_decompression.h"
#include "lowering/compressed/packed_rows.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

constexpr const char* kDynamicLinear = "tsquant::linear_compressed_dynamic";
constexpr size_t kWeight = 1, kScale = 2, kZeroPoint = 3;

enum class Fused { kNone, kLinear, kEmbedding, kDecompress };

Fused fused_kind(const Node* node) {
  const std::string kind = node->kind().toQualString();
  if (kind == "tsquant::linear_compressed" || kind == kDynamicLinear) return Fused::kLinear;
  if (kind == "tsquant::embedding_compressed") return Fused::kEmbedding;
  return kind == "tsquant::decompress" && node->inputs().size() == 9 ? Fused::kDecompress : Fused::kNone;
}

size_t codebook_input(const Node* node) { return fused_kind(node) == Fused::kDecompress ? 7 : 8; }

/// One weight, its operators and what they say.
struct FusedWeight {
  PackedRows rows;
  std::vector<int64_t> shape;
  c10::optional<std::pair<int64_t, int64_t>> swap;  ///< axes that stand the other way in the float weight
  std::vector<Node*> nodes;
};

c10::IValue required(const Model& model, const Value* value) {
  const auto constant = constant_of(model, value);
  if (constant) return *constant;
  throw Error(ErrorCode::kUnsupportedModel, "an argument of a compressed operator is computed by the graph",
              value->debugName());
}

at::Tensor tensor_of(const Model& model, const Value* value) {
  const auto parameter = param_of(model, value);
  return parameter ? parameter->tensor : at::Tensor();
}

/// The operator that puts axes back which fuse_decompression exchanged; null when it did not.
Node* transpose_behind(const Node* decompress) {
  const auto& uses = decompress->output()->uses();
  return uses.size() == 1 && uses.front().user->kind() == c10::aten::transpose ? uses.front().user : nullptr;
}

FusedWeight read_fused(const Model& model, Node* node) {
  const Fused kind = fused_kind(node);
  const size_t format = kind == Fused::kLinear ? 5 : 4;
  FusedWeight fused;
  PackedRows& rows = fused.rows;
  rows.format = required(model, node->input(format)).toStringRef();
  rows.group_size = required(model, node->input(format + 2)).toInt();
  rows.weight = tensor_of(model, node->input(kWeight));
  rows.scale = tensor_of(model, node->input(kScale));
  rows.zero_point = tensor_of(model, node->input(kZeroPoint));
  rows.codebook = tensor_of(model, node->input(codebook_input(node)));
  const auto size = required(model, node->input(format + 1));
  if (kind == Fused::kDecompress) {
    fused.shape = size.toIntVector();
    rows.size = 1;
    for (const int64_t length : fused.shape) rows.size *= length;
    rows.size /= rows.weight.size(0);
    if (const Node* transpose = transpose_behind(node)) {
      fused.swap = {required(model, transpose->input(1)).toInt(), required(model, transpose->input(2)).toInt()};
    }
  } else {
    rows.size = size.toInt();
    fused.shape = {rows.weight.size(0), rows.size};
  }
  return fused;
}

/// The float operator with the codes where its weight will be; for tsquant::decompress its readers are the operators.
std::vector<ParameterUse> float_uses(Node* node) {
  Graph& graph = *node->owningGraph();
  torch::jit::WithInsertPoint guard(node);
  Value* codes = node->input(kWeight);
  const Fused kind = fused_kind(node);
  if (kind == Fused::kDecompress) {
    std::vector<ParameterUse> uses;
    Node* transpose = transpose_behind(node);
    Value* weight = transpose ? transpose->output() : node->output();
    for (const auto& use : weight->uses()) uses.emplace_back(use.user, use.offset);
    weight->replaceAllUsesWith(codes);
    if (transpose) transpose->destroy();
    return uses;
  }
  Node* layer = kind == Fused::kLinear ? graph.create(c10::aten::linear, {node->input(0), codes, node->input(4)}, 1)
                                       : graph.create(c10::aten::embedding,
                                                      {codes, node->input(0), graph.insertConstant(int64_t{-1}),
                                                       graph.insertConstant(false), graph.insertConstant(false)},
                                                      1);
  graph.insertNode(layer)->copyMetadata(node);
  layer->output()->copyMetadata(node->output());
  node->output()->replaceAllUsesWith(layer->output());
  return {{layer, kind == Fused::kLinear ? size_t{1} : size_t{0}}};
}

/// The type of floats that an operator says; nullopt when it takes that of its inputs.
c10::optional<c10::ScalarType> own_float_type(const Model& model, const Node* node) {
  if (fused_kind(node) == Fused::kEmbedding) {
    return static_cast<c10::ScalarType>(required(model, node->input(7)).toInt());
  }
  const auto bias = fused_kind(node) == Fused::kLinear ? param_of(model, node->input(4)) : c10::nullopt;
  return bias ? c10::make_optional(bias->tensor.scalar_type()) : c10::nullopt;
}

/// The type of floats that the model computes with: that of such operators, of weights that plain operators unpack, or
/// of parameters that are no part of compressed weights.
c10::ScalarType float_type_of(const Model& model, const std::vector<Node*>& fused) {
  std::set<const Value*> parts;
  for (const Node* node : fused) {
    if (const auto own = own_float_type(model, node)) return *own;
    for (const size_t index : {kWeight, kScale, kZeroPoint, codebook_input(node)}) parts.insert(node->input(index));
  }
  const auto nodes = all_nodes(model.graph()->block());
  for (const Node* node : nodes) {
    const auto plain = node->kind() == c10::aten::to ? read_decompression(model, node->output()) : c10::nullopt;
    if (plain) return plain->weight.dtype;
  }
  for (const Node* node : nodes) {
    for (const Value* input : node->inputs()) {
      const auto parameter = parts.count(input) > 0 ? c10::nullopt : param_of(model, input);
      if (parameter && parameter->tensor.is_floating_point()) return parameter->tensor.scalar_type();
    }
  }
  return c10::kFloat;
}

}  // namespace

bool is_fused_decompression(const Node* node) { return fused_kind(node) != Fused::kNone; }

bool has_dynamic_activations(const Model& model) {
  return !nodes_of_kind(model.graph()->block(), {kDynamicLinear}).empty();
}

bool unfuse_decompression(Model& model) {
  NewParameters parameters(model);
  std::map<const void*, FusedWeight> weights;
  std::vector<const void*> order;
  std::vector<Node*> nodes;
  for (Node* node : all_nodes(model.graph()->block())) {
    if (!is_fused_decompression(node)) continue;
    nodes.push_back(node);
    FusedWeight fused = read_fused(model, node);
    const void* key = fused.rows.weight.data_ptr();
    if (weights.emplace(key, std::move(fused)).second) order.push_back(key);
    weights[key].nodes.push_back(node);
  }
  const c10::ScalarType common = float_type_of(model, nodes);
  for (const void* key : order) {
    FusedWeight& fused = weights[key];
    const c10::ScalarType dtype = own_float_type(model, fused.nodes.front()).value_or(common);
    std::vector<ParameterUse> uses;
    for (Node* node : fused.nodes) {
      for (const auto& use : float_uses(node)) uses.push_back(use);
      for (const size_t index : {kScale, kZeroPoint, codebook_input(node)}) {
        const auto slot = slot_of(model, node->input(index));
        parameters.detach(node, index);
        if (slot) parameters.give_up(*slot);
      }
      node->destroy();
    }
    const StoredWeight stored = unpack_rows(fused.rows, fused.shape, dtype);
    insert_decompression(model, parameters, uses,
                         fused.swap ? swap_axes(stored, fused.swap->first, fused.swap->second) : stored);
  }
  return !order.empty();
}

}  // namespace tsquant
