#include "algorithms/alignment_pairs.h"

#include <algorithm>

#include "graph/params.h"
#include "graph/weighted_layer.h"

namespace tsquant {

namespace {

bool all_equal(const std::vector<int64_t>& list, int64_t wanted) {
  return std::all_of(list.begin(), list.end(), [wanted](int64_t item) { return item == wanted; });
}

class PairFinder {
 public:
  PairFinder(const Model& model, const GraphView& view) : model_(model), view_(view), scope_(model) {}

  std::vector<AlignmentPair> run() const {
    std::vector<AlignmentPair> pairs;
    for (const auto& node : view_.nodes()) {
      AlignmentPair pair;
      if (is_consumer(node) && complete(node, pair)) pairs.push_back(std::move(pair));
    }
    return pairs;
  }

 private:
  /// The weight, when it is a parameter that nothing else reads.
  c10::optional<at::Tensor> own_weight(const ViewNode& node) const {
    const ViewEdge* edge = view_.input_edge(node, 1);
    if (!edge || edge->use.user != node.node || view_.node(edge->from).out_edges.size() != 1) return c10::nullopt;
    const auto weight = param_of(model_, edge->value);
    if (!weight || !weight->tensor.is_floating_point() || weight->tensor.dim() < 2) return c10::nullopt;
    return weight->tensor;
  }

  bool is_layer(const ViewNode& node) const {
    return node.kind == NodeKind::kOperator && layer_kind(node.node) == LayerKind::kConvolution && own_weight(node) &&
           optional_param_of(model_, node.node->input(WeightedLayer::kBias));
  }

  bool is_consumer(const ViewNode& node) const {
    if (!is_layer(node)) return false;
    const auto geometry = kernel_geometry(model_, node.node, *own_weight(node));
    return geometry && geometry->groups == 1 && !geometry->same && all_equal(geometry->padding, 0) &&
           all_equal(geometry->stride, 1) && all_equal(geometry->dilation, 1);
  }

  int64_t channel_axis(const ViewNode& node) const { return weighted_layer(model_, node.node)->channel_axis(); }

  bool is_read_once(const ViewNode& node) const {
    return node.out_edges.size() == 1 && node.value && node.value->uses().size() == 1;
  }

  /// `layer + constant` with one number per channel.
  bool is_addition(const ViewNode& node, AlignmentPair& pair) const {
    const auto* call = node.node;
    if (node.kind != NodeKind::kOperator || !call || call->kind() != c10::aten::add || call->inputs().size() != 3) {
      return false;
    }
    const auto alpha = constant_of(model_, call->input(2));
    if (!alpha || !alpha->isInt() || alpha->toInt() != 1) return false;
    for (size_t i = 0; i < 2; ++i) {
      const auto constant = param_of(model_, call->input(i));
      const ViewNode* other = view_.producer(call->input(1 - i));
      if (!constant || !other || !is_layer(*other)) continue;
      const auto weight = own_weight(*other);
      const at::Tensor& addend = constant->tensor;
      const int64_t axis = addend.dim() + channel_axis(*other);
      if (axis < 0 || addend.size(axis) != weight->size(0) || addend.numel() != weight->size(0)) continue;
      pair.addition = &node;
      pair.addend = i;
      pair.producer = other;
      return true;
    }
    return false;
  }

  bool complete(const ViewNode& consumer, AlignmentPair& pair) const {
    pair.between = view_.input_edge(consumer, 0);
    if (!pair.between) return false;
    pair.consumer = &consumer;
    pair.axis = channel_axis(consumer);
    const ViewNode& above = view_.node(pair.between->from);
    if (above.kind != NodeKind::kOperator || !is_read_once(above)) return false;
    if (!is_addition(above, pair)) pair.producer = &above;
    if (!is_layer(*pair.producer) || !is_read_once(*pair.producer)) return false;
    return channel_axis(*pair.producer) == pair.axis &&
           own_weight(*pair.producer)->size(0) == own_weight(consumer)->size(1);
  }

  const Model& model_;
  const GraphView& view_;
  const ParamScope scope_;
};

}  // namespace

std::vector<AlignmentPair> find_alignment_pairs(const Model& model, const GraphView& view) {
  return PairFinder(model, view).run();
}

}  // namespace tsquant
