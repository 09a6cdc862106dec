#include "algorithms/alignment_pairs.h"

#include <algorithm>

#include "graph/op_table.h"
#include "graph/params.h"

namespace tsquant {

namespace {

constexpr size_t kBias = 2, kStride = 3, kPadding = 4, kDilation = 5;

bool is_convolution(const ViewNode& node) {
  if (node.kind != NodeKind::kOperator || !node.op) return false;
  return node.type == "conv1d" || node.type == "conv2d" || node.type == "conv3d";
}

bool all_equal(const Model& model, const torch::jit::Value* value, int64_t wanted) {
  const auto list = constant_of(model, value);
  if (!list) return false;
  if (list->isString()) return wanted == 0 && list->toStringRef() == "valid";
  if (list->isInt()) return list->toInt() == wanted;
  if (!list->isIntList()) return false;
  const auto items = list->toIntVector();
  return std::all_of(items.begin(), items.end(), [wanted](int64_t item) { return item == wanted; });
}

class PairFinder {
 public:
  PairFinder(const Model& model, const GraphView& view) : model_(model), view_(view), params_(model) {}

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
    const auto weight = params_.find(edge->value);
    if (!weight || !weight->tensor.is_floating_point() || weight->tensor.dim() < 2) return c10::nullopt;
    return weight->tensor;
  }

  bool has_known_bias(const ViewNode& node) const {
    if (node.node->inputs().size() <= kBias) return false;
    const torch::jit::Value* bias = node.node->input(kBias);
    if (params_.find(bias)) return true;
    const auto constant = constant_of(model_, bias);
    return constant && constant->isNone();
  }

  bool is_layer(const ViewNode& node) const { return is_convolution(node) && own_weight(node) && has_known_bias(node); }

  bool is_consumer(const ViewNode& node) const {
    if (!is_layer(node)) return false;
    const auto* inputs = node.node;
    if (!all_equal(model_, inputs->input(kStride), 1) || !all_equal(model_, inputs->input(kPadding), 0) ||
        !all_equal(model_, inputs->input(kDilation), 1)) {
      return false;
    }
    const bool general =
        inputs->kind() == c10::Symbol::aten("_convolution") || inputs->kind() == c10::aten::convolution;
    return all_equal(model_, inputs->input(general ? 8 : 6), 1);
  }

  int64_t channel_axis(const ViewNode& node) const { return 1 - own_weight(node)->dim(); }

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
      const auto constant = params_.find(call->input(i));
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
  const ParamIndex params_;
};

}  // namespace

std::vector<AlignmentPair> find_alignment_pairs(const Model& model, const GraphView& view) {
  return PairFinder(model, view).run();
}

}  // namespace tsquant
