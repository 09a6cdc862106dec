#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <vector>

#include "graph/kernel_geometry.h"
#include "tsquant/model.h"

namespace tsquant {

enum class LayerKind { kNone, kLinear, kConvolution, kTransposedConvolution };

/// What a node is: aten::linear, the convolutions of one to three axes, and aten::_convolution and its like as that
/// which they compute. kNone for everything else, and when the graph computes whether a convolution is transposed.
LayerKind layer_kind(const torch::jit::Node* node);

/// An operator that applies a weight, as the graph describes it.
struct WeightedLayer {
  static constexpr size_t kInput = 0, kWeight = 1, kBias = 2;  ///< inputs of every such node

  LayerKind kind = LayerKind::kNone;
  size_t spatial = 0;             ///< number of spatial axes
  c10::optional<int64_t> groups;  ///< nullopt: computed by the graph; so are the others
  bool same = false;              ///< padding="same": what that is depends on the kernel, `padding` has zeros
  c10::optional<std::vector<int64_t>> stride, padding, output_padding, dilation;  ///< one per spatial axis

  /// Of the channels in the input and in the result, counted from the end.
  int64_t channel_axis() const { return -1 - static_cast<int64_t>(spatial); }
  /// nullopt when the groups are not known.
  c10::optional<WeightLayout> layout() const;
  /// nullopt when an argument is not known or a weight of these sizes has another number of axes.
  c10::optional<KernelGeometry> geometry(at::IntArrayRef weight) const;
};

/// nullopt for nodes that are no such operators.
c10::optional<WeightedLayer> weighted_layer(const Model& model, const torch::jit::Node* node);

/// `geometry` of the layer that a node is; nullopt for other nodes.
c10::optional<KernelGeometry> kernel_geometry(const Model& model, const torch::jit::Node* node,
                                              const at::Tensor& weight);

/// The layers of a block and of its inner blocks, in execution order.
std::vector<torch::jit::Node*> weighted_nodes(torch::jit::Block* block);

/// aten::addmm that computes bias + x * weight, unscaled.
bool is_plain_addmm(const Model& model, const torch::jit::Node* node);

/// Whether a value is a parameter with one number for each of these outputs, as a linear layer adds it.
bool is_bias(const Model& model, const torch::jit::Value* value, int64_t outputs);

/// Gives a layer this bias, whether or not it has one.
void set_bias(Model& model, torch::jit::Node* layer, const at::Tensor& bias);

}  // namespace tsquant
