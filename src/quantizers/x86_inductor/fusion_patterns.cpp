#include <algorithm>

#include "quantizers/pt2e/config.h"
#include "quantizers/x86_inductor/recipe.h"

// The patterns are those of torchao/quantization/pt2e/quantizer/x86_inductor_quantizer.py, spelled as in TorchScript.
namespace tsquant::x86_inductor {

namespace {

using pt2e::AnnotationTable;
using pt2e::is_one_of;
using pt2e::producer_of;
using pt2e::users_of;
using Functions = std::vector<std::string>;

const Functions kAdd{"add", "add_"};
const Functions kRelu{"relu", "relu_"};

/// Whether the value of `node` is one of both inputs of the addition `sum`, and the other input is a tensor too.
/// Returns that other producer, or -1.
int64_t other_summand(const GraphView& view, int64_t node, int64_t sum) {
  const int64_t left = producer_of(view, sum, 0), right = producer_of(view, sum, 1);
  if (left < 0 || right < 0) return -1;
  return left == node ? right : right == node ? left : -1;
}

class PatternAnnotator {
 public:
  PatternAnnotator(AnnotationTable& table, const pt2e::ModulePaths& paths, const OptionalQuantizationConfig& config,
                   const PatternFilter& filter)
      : table_(table), view_(table.view()), paths_(paths), config_(config), filter_(filter) {}

  //  x    w
  //  |    |
  //  conv2d   other          other is quantized for conv2d only: the int8 sum kernel of convolutions reads codes, while
  //      \    /              linear adds in float
  //       add
  //        |
  //       relu (optional)
  void sums(const Functions& starts, bool quantize_other, bool with_relu) {
    for_each(starts, [&](int64_t start) {
      if (users_of(view_, start).size() != 1) return;
      const int64_t sum = users_of(view_, start).front();
      const int64_t other = other_summand(view_, start, sum);
      if (!is_one_of(view_.node(sum), kAdd) || other < 0) return;
      if (!with_relu) return annotate_sum({sum, start}, start, sum, quantize_other ? other : -1);
      for (const int64_t relu : users_of(view_, sum)) {
        if (!is_one_of(view_.node(relu), kRelu)) continue;
        annotate_sum({relu, sum, start}, start, sum, quantize_other ? other : -1);
      }
    });
  }

  //  x    w
  //  |    |
  //  conv2d | linear
  //     |
  //  activation
  void activations(const Functions& starts, const Functions& activations) {
    for_each(starts, [&](int64_t start) {
      for (const int64_t user : users_of(view_, start)) {
        if (is_one_of(view_.node(user), activations) && take({user, start})) weighted(start);
      }
    });
  }

  void alone(const Functions& starts) {
    for_each(starts, [&](int64_t start) {
      if (take({start})) weighted(start);
    });
  }

  void products(const std::string& function, bool equal_shapes) {
    for_each({function}, [&](int64_t node) {
      if (equal_shapes && !has_equal_shapes(view_.node(node)) && config_) return;
      if (!take({node})) return;
      for (const int64_t producer : pt2e::producers_of(view_, node)) {
        table_.quantize_input(node, producer, pt2e::input_spec(*config_));
      }
    });
  }

 private:
  template <typename Visit>
  void for_each(const Functions& functions, const Visit& visit) {
    for (const auto& node : view_.nodes()) {
      if (is_one_of(node, functions) && !belongs_to_attention(node)) visit(node.id);
    }
  }

  bool belongs_to_attention(const ViewNode& node) const {
    return is_one_of(node, {"linear", "conv1d", "conv2d"}) &&
           paths_.caller_type(node) == "torch.nn.modules.activation.MultiheadAttention";
  }

  /// Claims the nodes of a pattern, its last node first. False when it is taken, does not pass the filter, or stays in
  /// float.
  bool take(const std::vector<int64_t>& nodes) {
    if (table_.any_annotated(nodes) || !filter_(nodes)) return false;
    table_.mark(nodes);
    for (const int64_t node : nodes) table_.at(node).excluded = !config_;
    table_.at(nodes.front()).quantized_output = config_.has_value() && !pt2e::is_dynamic(config_);
    return config_.has_value();
  }

  void weighted(int64_t node) {
    table_.quantize_port(node, 0, pt2e::input_spec(*config_));
    table_.quantize_port(node, 1, pt2e::weight_spec(*config_));
  }

  void annotate_sum(const std::vector<int64_t>& nodes, int64_t start, int64_t sum, int64_t other) {
    if (!take(nodes)) return;
    weighted(start);
    if (other >= 0) table_.quantize_input(sum, other, pt2e::input_spec(*config_));
  }

  bool has_equal_shapes(const ViewNode& node) const {
    if (node.in_edges.size() != 2) return false;
    const TensorInfo& left = view_.edge(node.in_edges[0]).info;
    const TensorInfo& right = view_.edge(node.in_edges[1]).info;
    return left.known && right.known && left.shape == right.shape && left.is_floating() && right.is_floating();
  }

  AnnotationTable& table_;
  const GraphView& view_;
  const pt2e::ModulePaths& paths_;
  const OptionalQuantizationConfig& config_;
  const PatternFilter& filter_;
};

}  // namespace

void annotate_fusion_patterns(AnnotationTable& table, const pt2e::ModulePaths& paths,
                              const OptionalQuantizationConfig& config, const PatternFilter& filter) {
  PatternAnnotator annotator(table, paths, config, filter);
  // Kernels that compute activation parameters at run time exist for linear layers only.
  if (pt2e::is_dynamic(config)) return annotator.alone({"linear"});
  annotator.sums({"conv2d"}, /*quantize_other=*/true, /*with_relu=*/true);
  annotator.sums({"conv2d"}, /*quantize_other=*/true, /*with_relu=*/false);
  for (const Functions& activation : {kRelu, Functions{"hardtanh", "hardtanh_"}, Functions{"hardswish", "hardswish_"},
                                      Functions{"relu6", "relu6_"}, Functions{"silu", "silu_"}}) {
    annotator.activations({"conv2d"}, activation);
  }
  annotator.activations({"conv1d"}, kRelu);
  annotator.alone({"conv2d"});

  annotator.sums({"linear"}, /*quantize_other=*/false, /*with_relu=*/true);
  annotator.sums({"linear"}, /*quantize_other=*/false, /*with_relu=*/false);
  for (const Functions& activation :
       {kRelu, Functions{"leaky_relu", "leaky_relu_"}, Functions{"tanh", "tanh_"}, Functions{"gelu"}}) {
    annotator.activations({"linear"}, activation);
  }
  annotator.alone({"linear"});

  annotator.products("matmul", /*equal_shapes=*/false);
  annotator.products("mul", /*equal_shapes=*/true);
}

}  // namespace tsquant::x86_inductor
