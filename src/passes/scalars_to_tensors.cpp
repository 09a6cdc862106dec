#include <ATen/ATen.h>
#include <fmt/format.h>

#include <unordered_map>
#include <unordered_set>

#include "graph/attribute_slots.h"
#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "graph/tensor_values.h"
#include "graph/weighted_layer.h"
#include "passes/passes.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

enum class Dtype { kUnknown, kFloat32, kOther };

/// What is known about the types of tensors without running the model.
class DtypeTable {
 public:
  /// In execution order, so that the type of every operand is known when its reader is looked at.
  explicit DtypeTable(const Model& model) : params_(model) {
    for (Node* node : all_nodes(model.graph()->block())) {
      for (Value* output : node->outputs()) of(output);
    }
  }

  Dtype of(Value* value) {
    const auto [place, is_new] = known_.emplace(value, Dtype::kUnknown);
    if (!is_new) return place->second;
    const Dtype result = find(value);
    return known_[value] = result;
  }

 private:
  Dtype find(Value* value) {
    if (const auto param = params_.find(value)) {
      return param->tensor.scalar_type() == c10::kFloat ? Dtype::kFloat32 : Dtype::kOther;
    }
    if (const auto type = value->type()->cast<c10::TensorType>()) {
      if (const auto scalar = type->scalarType()) return *scalar == c10::kFloat ? Dtype::kFloat32 : Dtype::kOther;
    }
    Node* node = value->node();
    if (!node->kind().is_aten() || node->outputs().empty()) return Dtype::kUnknown;
    if (layer_kind(node) != LayerKind::kNone) return of(node->input(WeightedLayer::kWeight));  // all have one type
    const std::string function = node->kind().toUnqualString();
    if (keeps_type(function)) return of(node->input(0));
    return is_arithmetic(function) ? of_arithmetic(node) : Dtype::kUnknown;
  }

  /// Whether the result has the type of the first input.
  static bool keeps_type(const std::string& function) {
    static const std::unordered_set<std::string> functions = [] {
      std::unordered_set<std::string> names{"layer_norm", "group_norm"};
      for (const char* name :
           {"batch_norm", "softmax",    "sigmoid",    "tanh",       "gelu",
            "silu",       "silu_",      "relu",       "relu_",      "relu6",
            "hardswish",  "hardswish_", "hardtanh",   "hardtanh_",  "hardsigmoid",
            "leaky_relu", "elu",        "matmul",     "bmm",        "exp",
            "sqrt",       "embedding",  "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d",
            "mean",       "dropout",    "view",       "reshape",    "flatten",
            "unflatten",  "permute",    "transpose",  "squeeze",    "unsqueeze",
            "slice",      "select",     "expand",     "contiguous", "clone",
            "detach",     "roll",       "neg",        "clamp",      "scaled_dot_product_attention"}) {
        names.insert(name);
      }
      return names;
    }();
    return functions.count(function) > 0;
  }

  static bool is_arithmetic(const std::string& function) {
    return function == "add" || function == "add_" || function == "sub" || function == "sub_" || function == "rsub" ||
           function == "mul" || function == "mul_" || function == "div" || function == "div_";
  }

  /// Numbers do not change the type of a float32 tensor, and neither do tensors without dimensions.
  Dtype of_arithmetic(Node* node) {
    const Dtype left = of(node->input(0));
    Value* right = node->input(1);
    const bool is_number = !carries_tensor(right->type()) || is_scalar_constant(right);
    return is_number || left == of(right) ? left : Dtype::kUnknown;
  }

  ParamIndex params_;
  std::unordered_map<const Value*, Dtype> known_;
};

/// The number behind an argument; nullopt for tensors with dimensions and for what is computed.
c10::optional<at::Scalar> number_of(const Value* value) {
  const auto constant = torch::jit::toIValue(value);
  if (!constant) return c10::nullopt;
  if (constant->isTensor()) {
    if (!is_scalar_constant(value)) return c10::nullopt;
    return constant->toTensor().item();
  }
  if (!constant->isDouble() && !constant->isInt()) return c10::nullopt;
  return constant->toScalar();
}

bool may_convert(const at::Scalar& number, Dtype other) {
  if (number.isFloatingPoint()) return other != Dtype::kOther;
  return number.isIntegral(/*includeBool=*/false) && other == Dtype::kFloat32;
}

/// @param index where to look first; the one after the name that was found
std::string free_attribute(const torch::jit::Module& module, int64_t& index) {
  for (;;) {
    std::string name = fmt::format("_tensor_constant_{}", index++);
    if (!find_attribute_slot(*module.type(), name)) return name;
  }
}

/// `x += 1` that a pass made `x + 1` still has its name.
bool was_in_place(const Node* node) {
  const std::string type = names_of(node).type();
  return !type.empty() && type.back() == '_' && type.rfind("__", 0) != 0;
}

bool has_factor(const Node* node) {
  if (node->kind() != c10::aten::add || node->inputs().size() < 3) return false;
  const auto alpha = torch::jit::toIValue(node->input(2));
  return !alpha || !alpha->isInt() || alpha->toInt() != 1;
}

// %y = aten::add(%x, %number, %alpha)
//   ->
// %c = prim::GetAttr[name="_tensor_constant_0"](%self)
// %y = aten::add(%x, %c, %alpha)
void put_buffer(Model& model, Node* node, size_t index, const at::Scalar& number, int64_t& next_name) {
  const std::string name = free_attribute(model.module(), next_name);
  model.module().register_buffer(name, at::scalar_tensor(number.toDouble(), at::kFloat));
  torch::jit::WithInsertPoint guard(node);
  auto graph = model.graph();
  Value* self = graph->inputs().at(0);
  self->setType(model.module().type());
  node->replaceInput(index, graph->insertGetAttr(self, name));
}

}  // namespace

// Makes the number in `x + 1.0` and `2 * x` a float32 buffer of the module (`_tensor_constant_0`, ...), so that it can
// be quantized like any other input (_convert_scalars_to_attrs of executorch's xnnpack_quantizer_utils.py). Traces
// hold such numbers as tensors without dimensions; these become buffers too.
//
// Results keep their type: an integer is left alone unless the other operand is known to be float32, and no number is
// touched when the other operand is known to be something else. Additions in place (`x += 1.0`) and with a factor
// (`alpha`) stay as they are.
bool scalars_to_tensors(RewriteContext& ctx) {
  Model& model = ctx.model;
  bool changed = false;
  DtypeTable dtypes(model);
  int64_t next_name = 0;
  for (Node* node : nodes_of_kind(model.graph()->block(), {"aten::add", "aten::mul"})) {
    if (node->outputs().size() != 1 || !carries_tensor(node->output()->type())) continue;
    if (was_in_place(node) || has_factor(node)) continue;
    ctx.at(node);
    for (size_t index : {0, 1}) {
      Value* other = node->input(1 - index);
      const auto number = number_of(node->input(index));
      if (!number || number_of(other) || !other->type()->isSubtypeOf(*c10::TensorType::get())) continue;
      if (!may_convert(*number, dtypes.of(other))) continue;
      put_buffer(model, node, index, *number, next_name);
      changed = true;
    }
  }
  return changed;
}

}  // namespace tsquant
