#include "graph/weighted_layer.h"

#include <torch/csrc/jit/ir/constants.h>

#include <algorithm>
#include <string>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "graph/tensor_values.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// Of conv2d, conv_transpose1d and so on.
LayerKind kind_of(const std::string& function) {
  if (function.size() < 2 || function.back() != 'd') return LayerKind::kNone;
  const std::string stem = function.substr(0, function.size() - 2);
  if (stem == "conv") return LayerKind::kConvolution;
  return stem == "conv_transpose" ? LayerKind::kTransposedConvolution : LayerKind::kNone;
}

/// Inputs that hold the arguments of a convolution; 0: it has no such argument.
struct Places {
  size_t dilation, groups, output_padding, transposed;
};
constexpr size_t kStride = 3, kPadding = 4;
constexpr Places kPlain{5, 6, 0, 0}, kOfTransposed{7, 6, 5, 0}, kGeneral{5, 8, 7, 6};

/// aten::conv2d and the like say by their name what aten::_convolution says by an argument.
const Places& places_of(const Node* node) {
  const std::string name = node->kind().toUnqualString();
  if (name.rfind("conv_transpose", 0) == 0) return kOfTransposed;
  return name.find("convolution") != std::string::npos && name != "_convolution_mode" ? kGeneral : kPlain;
}

/// One number per axis; a single number stands for all axes.
c10::optional<std::vector<int64_t>> list_of(const Model& model, const Value* value, size_t axes) {
  const auto constant = constant_of(model, value);
  if (!constant || !constant->isIntList()) return c10::nullopt;
  auto list = constant->toIntVector();
  if (list.size() == 1) list.assign(axes, list.front());
  return list.size() == axes ? c10::make_optional(std::move(list)) : c10::nullopt;
}

void read_padding(const Model& model, const Value* value, WeightedLayer& layer) {
  const auto constant = constant_of(model, value);
  if (!constant || !constant->isString()) {
    layer.padding = list_of(model, value, layer.spatial);
    return;
  }
  layer.same = constant->toStringRef() == "same";
  if (layer.same || constant->toStringRef() == "valid") layer.padding.emplace(layer.spatial, 0);
}

}  // namespace

LayerKind layer_kind(const Node* node) {
  if (!node->kind().is_aten() || node->inputs().size() <= WeightedLayer::kBias) return LayerKind::kNone;
  if (node->kind() == c10::aten::linear) return LayerKind::kLinear;
  const LayerKind kind = kind_of(function_of(node));
  if (kind == LayerKind::kNone) return kind;
  const Places& places = places_of(node);
  if (node->inputs().size() <= std::max(places.dilation, places.groups)) return LayerKind::kNone;
  const auto flag = places.transposed > 0 ? torch::jit::toIValue(node->input(places.transposed)) : c10::nullopt;
  if (places.transposed > 0 && !(flag && flag->isBool())) return LayerKind::kNone;
  return kind;
}

c10::optional<WeightedLayer> weighted_layer(const Model& model, const Node* node) {
  WeightedLayer layer;
  layer.kind = layer_kind(node);
  if (layer.kind == LayerKind::kNone) return c10::nullopt;
  layer.groups = 1;
  layer.stride = layer.padding = layer.output_padding = layer.dilation = std::vector<int64_t>();
  if (layer.kind == LayerKind::kLinear) return layer;
  const std::string function = function_of(node);  // conv2d, conv_transpose3d
  const Places& places = places_of(node);
  layer.spatial = static_cast<size_t>(function.at(function.size() - 2) - '0');
  const auto groups = constant_of(model, node->input(places.groups));
  layer.groups = groups && groups->isInt() ? c10::make_optional(groups->toInt()) : c10::nullopt;
  layer.stride = list_of(model, node->input(kStride), layer.spatial);
  layer.dilation = list_of(model, node->input(places.dilation), layer.spatial);
  read_padding(model, node->input(kPadding), layer);
  layer.output_padding = places.output_padding > 0 ? list_of(model, node->input(places.output_padding), layer.spatial)
                                                   : std::vector<int64_t>(layer.spatial, 0);
  return layer;
}

c10::optional<WeightLayout> WeightedLayer::layout() const {
  if (!groups || *groups < 1) return c10::nullopt;
  return WeightLayout{kind == LayerKind::kTransposedConvolution, *groups};
}

c10::optional<KernelGeometry> WeightedLayer::geometry(at::IntArrayRef weight) const {
  const auto known_layout = layout();
  const bool known = known_layout && stride && padding && output_padding && dilation;
  if (!known || weight.size() != spatial + 2) return c10::nullopt;
  KernelGeometry geometry{*known_layout, same, weight.slice(2).vec(), *stride, *padding, *output_padding, *dilation};
  for (size_t axis = 0; same && axis < spatial; ++axis) {
    geometry.padding[axis] = geometry.dilation[axis] * (geometry.kernel[axis] - 1) / 2;
  }
  return geometry;
}

c10::optional<KernelGeometry> kernel_geometry(const Model& model, const Node* node, const at::Tensor& weight) {
  const auto layer = weighted_layer(model, node);
  return layer ? layer->geometry(weight.sizes()) : c10::nullopt;
}

std::vector<Node*> weighted_nodes(torch::jit::Block* block) {
  std::vector<Node*> layers;
  for (Node* node : all_nodes(block)) {
    if (layer_kind(node) != LayerKind::kNone) layers.push_back(node);
  }
  return layers;
}

bool is_plain_addmm(const Model& model, const Node* node) {
  return node->kind() == c10::aten::addmm && equals_number(model, node->input(3), 1) &&
         equals_number(model, node->input(4), 1);
}

bool is_bias(const Model& model, const Value* value, int64_t outputs) {
  const auto parameter = param_of(model, value);
  return parameter && parameter->tensor.dim() == 1 && parameter->tensor.size(0) == outputs;
}

void set_bias(Model& model, Node* layer, const at::Tensor& bias) {
  if (param_of(model, layer->input(WeightedLayer::kBias))) return set_param(model, layer, WeightedLayer::kBias, bias);
  torch::jit::WithInsertPoint guard(layer);
  layer->replaceInput(WeightedLayer::kBias, layer->owningGraph()->insertConstant(bias.detach()));
}

}  // namespace tsquant
