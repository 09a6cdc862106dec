#include "passes/decompose_attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "passes/attention_source.h"
#include "passes/fresh_names.h"
#include "passes/insert_source.h"
#include "passes/nested_tensors.h"
#include "passes/pad_nested_rows.h"
#include "passes/passes.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

const char* const kEncoderLayer = "aten::_transformer_encoder_layer_fwd";
const char* const kMultiHead = "aten::_native_multi_head_attention";
const char* const kProduct = "aten::_scaled_dot_product_attention";

/// Arguments of the functional overloads; those with `out` have more.
const std::map<std::string, size_t>& argument_counts() {
  static const std::map<std::string, size_t> counts = {{kEncoderLayer, 20}, {kMultiHead, 13}, {kProduct, 7}};
  return counts;
}

bool is_constant(const Model& model, const Value* value, const c10::IValue& expected) {
  const auto constant = constant_of(model, value);
  return constant && *constant == expected;
}

bool reads_weights(const Node* node) { return node->outputs().size() > 1 && !node->output(1)->uses().empty(); }

/// The fused operators of a model that are candidates: all but products whose only result is the product itself.
std::vector<Node*> fused_attention(torch::jit::Graph& graph) {
  std::vector<Node*> found;
  for (Node* node : nodes_of_kind(graph.block(), {kEncoderLayer, kMultiHead, kProduct})) {
    if (!is_kind(node, kProduct) || reads_weights(node)) found.push_back(node);
  }
  return found;
}

/// "3", "12", "21" or "111": see multi_head_attention_source.
std::string equal_groups(const Node* node) {
  std::string groups = "1";
  for (size_t i = 1; i < 3; ++i) {
    if (node->input(i) == node->input(i - 1)) {
      ++groups.back();
    } else {
      groups += '1';
    }
  }
  return groups;
}

std::string obstacle(const Model& model, const Node* node, const NestedTensors& nested) {
  const auto expected = argument_counts().find(node->kind().toQualString());
  if (expected == argument_counts().end()) return "";
  if (node->inputs().size() != expected->second) return "it writes its result into a given tensor";
  if (nested.may_hold(node->input(0))) return "its input may be a nested tensor (rows of different length)";
  if (is_kind(node, kProduct)) {
    if (!reads_weights(node)) return "";
    const auto dropout = constant_of(model, node->input(4));
    if (!dropout || !dropout->isDouble() || dropout->toDouble() != 0) return "it drops values at random";
    return is_constant(model, node->input(5), false) ? "its attention weights are read but not computed" : "";
  }
  if (is_kind(node, kMultiHead) && equal_groups(node) != "3") {
    if (!param_of(model, node->input(5)) || !param_of(model, node->input(6))) {
      return "the graph computes its projection weights, and its arguments differ";
    }
  }
  return "";
}

class Decomposer {
 public:
  explicit Decomposer(Model& model) : model_(model), names_(model), sizes_(*model.graph()) {}

  void decompose(Node* node) {
    if (is_kind(node, kEncoderLayer)) {
      replace(node, encoder_layer_source(), "encoder_layer", {}, {}, /*spans_modules=*/true);
    } else if (is_kind(node, kMultiHead)) {
      decompose_multi_head(node);
    } else {
      replace(node, attention_product_source(), "attention_product", {}, {});
    }
  }

 private:
  void decompose_multi_head(Node* node) {
    const std::string groups = equal_groups(node);
    std::map<size_t, c10::IValue> known;
    constexpr size_t kNeedWeights = 10;
    if (!reads_weights(node)) known[kNeedWeights] = false;
    std::vector<Value*> extra;
    if (groups == "3") {
      extra = {node->input(5), node->input(6)};
    } else {
      size_t first = 0;
      for (const char digit : groups) {
        const size_t size = digit - '0';
        for (const size_t input : {5, 6}) extra.push_back(rows_of(node, input, first, size));
        first += size;
      }
    }
    replace(node, multi_head_attention_source(groups), "multi_head_attention", known, extra);
  }

  /// A parameter with the rows of the packed projection for arguments [first, first + count) of the operator.
  Value* rows_of(Node* node, size_t input, size_t first, size_t count) {
    const auto packed = param_of(model_, node->input(input));
    const int64_t rows = packed->tensor.size(0) / 3;
    const at::Tensor part =
        packed->tensor.narrow(0, rows * static_cast<int64_t>(first), rows * static_cast<int64_t>(count));
    std::string base =
        (packed->name.empty() ? "in_proj" : packed->name) + "_" + std::string("qkv").substr(first, count);
    std::replace(base.begin(), base.end(), '.', '_');
    std::string name = base;
    for (int index = 1; model_.module().hasattr(name); ++index) name = fmt::format("{}_{}", base, index);
    model_.module().register_parameter(name, part.detach().clone(), /*is_buffer=*/false);
    torch::jit::WithInsertPoint guard(node);
    auto graph = model_.graph();
    Value* self = graph->inputs().at(0);
    self->setType(model_.module().type());
    return graph->insertGetAttr(self, name);
  }

  /// Puts the function in the place of the node, with what is known about its arguments.
  void replace(Node* node, const std::string& source, const std::string& function, std::map<size_t, c10::IValue> known,
               const std::vector<Value*>& extra, bool spans_modules = false) {
    std::vector<Value*> arguments = node->inputs().vec();
    for (size_t i = 0; i < arguments.size(); ++i) {
      if (arguments[i]->type()->kind() == c10::TypeKind::TensorType) continue;
      const auto constant = constant_of(model_, arguments[i]);
      if (constant && !known.count(i)) known[i] = *constant;
    }
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    replace_with_source(node, source, function, arguments, known, [&](const auto& nodes) {
      const std::string path = module_path(node);
      sizes_.add(nodes);
      for (Node* piece : nodes) {
        names_.give(piece, spans_modules ? weight_path(piece).value_or(path) : path, sizes_);
      }
    });
  }

  /// The module whose weight a piece reads: an encoder layer reads the weights of its children.
  c10::optional<std::string> weight_path(const Node* node) const {
    for (const Value* input : node->inputs()) {
      const auto param = input->node()->kind() == c10::prim::GetAttr ? param_of(model_, input) : c10::nullopt;
      const auto dot = param ? param->name.rfind('.') : std::string::npos;
      if (dot == std::string::npos) continue;
      std::string path = param->name.substr(0, dot);
      std::replace(path.begin(), path.end(), '.', '/');
      return path;
    }
    return c10::nullopt;
  }

  Model& model_;
  FreshNames names_;
  SizeArithmetic sizes_;
};

}  // namespace

std::string attention_obstacle(const Model& model, const Node* node) {
  if (!argument_counts().count(node->kind().toQualString())) return "";
  return obstacle(model, node, NestedTensors(*model.graph()));
}

// Spells attention that LibTorch computes in one operator as the layers it consists of, so that each can be quantized,
// in all blocks of the graph:
// - `aten::_transformer_encoder_layer_fwd` (nn.TransformerEncoderLayer in evaluation mode) becomes layer norms,
//   attention, two linear layers with relu or gelu, and additions;
// - `aten::_native_multi_head_attention` (nn.MultiheadAttention in evaluation mode) becomes linear layers around
//   `aten::_scaled_dot_product_attention`, or around products and softmax when the attention weights are read;
// - `aten::_scaled_dot_product_attention` becomes products and softmax when its second result, the attention weights,
//   is read. Otherwise it stays: it is an operator of the hardware table, which NNCF quantizes as a whole.
//
// This is what torch.export shows of these modules, and what a trace with gradients enabled holds. Source of the
// formulas: aten/src/ATen/native/transformers/{attention,transformer}.cpp of LibTorch 1.13.
//
// Operators that cannot be rewritten stay as they are, with a warning that gives the reason (`attention_obstacle`).
bool decompose_attention(RewriteContext& ctx) {
  Model& model = ctx.model;
  auto graph = model.graph();
  if (fused_attention(*graph).empty()) return false;
  bool changed = pad_nested_rows(model);
  const NestedTensors nested(*graph);
  Decomposer decomposer(model);
  // Encoder layers leave attention behind, which the next round takes apart.
  for (int round = 0; round < 2; ++round) {
    for (Node* node : fused_attention(*graph)) {
      const std::string reason = obstacle(model, node, nested);
      if (reason.empty()) {
        ctx.at(node);
        decomposer.decompose(node);
        changed = true;
      } else if (round == 0) {
        ctx.warnings.push_back(fmt::format("{} is not taken apart: {}", names_of(node).name, reason));
      }
    }
  }
  return changed;
}

}  // namespace tsquant
