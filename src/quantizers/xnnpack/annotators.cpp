#include "quantizers/xnnpack/annotators.h"

#include <algorithm>

#include "graph/params.h"
#include "graph/weighted_layer.h"
#include "quantizers/pt2e/config.h"

// The patterns are those of executorch/backends/xnnpack/quantizer/xnnpack_quantizer_utils.py, spelled as in
// TorchScript.
namespace tsquant::xnnpack {

namespace {

using pt2e::AnnotationTable;
using pt2e::is_one_of;
using pt2e::Place;
using pt2e::producer_of;
using pt2e::Spec;
using pt2e::users_of;
using Functions = std::vector<std::string>;

const Functions kRelu{"relu", "relu_"};
const Functions kLinear{"linear"};
const Functions kConvolution{"conv1d", "conv2d", "conv3d"};
const Functions kTransposed{"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"};
const Functions kAdd{"add", "add_"};
const Functions kMul{"mul", "mul_"};

class Annotator {
 public:
  Annotator(AnnotationTable& table, const OptionalQuantizationConfig& config, const NodeFilter& filter)
      : table_(table), view_(table.view()), model_(view_.model()), config_(config), filter_(filter) {}

  /// Layers with a weight. `alone` must not claim a layer before the pattern with its relu had its turn.
  void weighted(const Functions& functions, bool with_relu) {
    for_each(functions, [&](const ViewNode& layer) {
      const int64_t relu = only_relu(layer.id);
      if ((relu >= 0) != with_relu || is_grouped_transpose(layer)) return;
      const int64_t last = with_relu ? relu : layer.id;
      if (!take(with_relu ? std::vector<int64_t>{layer.id, relu} : std::vector<int64_t>{layer.id})) return;
      table_.quantize_port(layer.id, 0, pt2e::input_spec(*config_));
      table_.quantize_port(layer.id, 1, weight_spec(layer));
      table_.at(last).output = pt2e::output_spec(*config_);
    });
  }

  void elementwise(const Functions& functions, bool with_relu) {
    for_each(functions, [&](const ViewNode& node) {
      const int64_t relu = only_relu(node.id);
      if ((relu >= 0) != with_relu || !is_quantizable(node)) return;
      const int64_t last = with_relu ? relu : node.id;
      if (!take(with_relu ? std::vector<int64_t>{node.id, relu} : std::vector<int64_t>{node.id})) return;
      for (const int64_t producer : pt2e::producers_of(view_, node.id)) {
        table_.quantize_input(node.id, producer, pt2e::input_spec(*config_));
      }
      table_.at(last).output = pt2e::output_spec(*config_);
    });
  }

  void adaptive_avg_pool2d() {
    for_each({"adaptive_avg_pool2d"}, [&](const ViewNode& node) {
      const int64_t input = producer_of(view_, node.id);
      if (input < 0 || !take({node.id})) return;
      const bool continued = table_.at(input).annotated && table_.at(input).output;
      table_.quantize_input(node.id, input, continued ? Spec(Place{input, -1}) : pt2e::input_spec(*config_));
      share_output(node.id, input);
    });
  }

  void cat() {
    for_each({"cat"}, [&](const ViewNode& node) {
      const auto inputs = pt2e::producers_of(view_, node.id);
      if (inputs.empty() || !is_quantizable(node) || !take({node.id})) return;
      table_.quantize_input(node.id, inputs.front(), pt2e::input_spec(*config_));
      if (table_.at(node.id).inputs.empty()) return;
      for (size_t i = 1; i < inputs.size(); ++i) {
        table_.quantize_input(node.id, inputs[i], Spec(Place{inputs.front(), node.id}));
      }
      share_output(node.id, inputs.front());
    });
  }

  /// The sequence and the first hidden state; the output sequence and the last hidden state.
  void gru_inputs_and_outputs() {
    for_each({"gru"}, [&](const ViewNode& node) {
      if (!take({node.id})) return;
      for (const int64_t port : {0, 1}) table_.quantize_port(node.id, port, pt2e::input_spec(*config_));
      for (const int64_t user : users_of(view_, node.id)) {
        if (view_.node(user).type != "__getitem__") continue;
        table_.mark({user});
        table_.at(user).output = pt2e::output_spec(*config_);
      }
    });
  }

 private:
  template <typename Visit>
  void for_each(const Functions& functions, const Visit& visit) {
    for (const auto& node : view_.nodes()) {
      if (is_one_of(node, functions)) visit(node);
    }
  }

  /// The relu that is the only user of a node, or -1.
  int64_t only_relu(int64_t node) const {
    const auto users = users_of(view_, node);
    return users.size() == 1 && is_one_of(view_.node(users.front()), kRelu) ? users.front() : -1;
  }

  /// Claims the nodes of a pattern. False when it is taken, its first node does not pass the filter, or it stays in
  /// float. A relu goes with the operator before it, whatever module it stands in.
  bool take(const std::vector<int64_t>& nodes) {
    if (table_.any_annotated(nodes) || !filter_(view_.node(nodes.front()))) return false;
    table_.mark(nodes);
    for (const int64_t node : nodes) table_.at(node).excluded = !config_;
    return config_.has_value();
  }

  void share_output(int64_t node, int64_t input) {
    if (!table_.at(node).inputs.empty()) table_.at(node).output = Spec(Place{input, node});
  }

  /// Output channels of a transposed convolution lie in dimension 1.
  c10::optional<Spec> weight_spec(const ViewNode& layer) const {
    auto spec = config_->weight;
    if (spec && layer_kind(layer.node) == LayerKind::kTransposedConvolution) spec->ch_axis = 1;
    return spec ? c10::optional<Spec>(Spec(*spec)) : c10::nullopt;
  }

  /// XNNPACK has no int8 kernel for them.
  bool is_grouped_transpose(const ViewNode& layer) const {
    const auto read = weighted_layer(model_, layer.node);
    return read && read->kind == LayerKind::kTransposedConvolution && read->groups != 1;
  }

  /// Observers take float32, and histograms values up to a bound (xnnpack_quantizer_utils.py, _is_input_large_scalar).
  bool is_quantizable(const ViewNode& node) const {
    constexpr double kHistogramBound = 3.4028235e15;
    return std::all_of(node.in_edges.begin(), node.in_edges.end(), [&](int64_t id) {
      const ViewEdge& edge = view_.edge(id);
      if (edge.info.known && edge.info.dtype != c10::kFloat) return false;
      const auto constant =
          view_.node(edge.from).kind == NodeKind::kParameter ? param_of(model_, edge.value) : c10::nullopt;
      return !constant || constant->tensor.numel() != 1 || std::abs(constant->tensor.item<double>()) <= kHistogramBound;
    });
  }

  AnnotationTable& table_;
  const GraphView& view_;
  const Model& model_;
  const OptionalQuantizationConfig& config_;
  const NodeFilter& filter_;
};

}  // namespace

const std::vector<std::string>& quantizable_functions() {
  static const std::vector<std::string> functions{"linear",
                                                  "conv1d",
                                                  "conv2d",
                                                  "conv3d",
                                                  "conv_transpose1d",
                                                  "conv_transpose2d",
                                                  "conv_transpose3d",
                                                  "adaptive_avg_pool2d",
                                                  "gru",
                                                  "add",
                                                  "mul",
                                                  "cat"};
  return functions;
}

void annotate_patterns(AnnotationTable& table, const OptionalQuantizationConfig& config, const NodeFilter& filter) {
  Annotator annotator(table, config, filter);
  annotator.weighted(kLinear, /*with_relu=*/true);
  annotator.weighted(kLinear, /*with_relu=*/false);
  // Kernels that compute activation parameters at run time exist for linear layers only.
  if (pt2e::is_dynamic(config)) return;
  for (const bool with_relu : {false, true}) {
    annotator.weighted(kConvolution, with_relu);
    annotator.weighted(kTransposed, with_relu);
  }
  annotator.adaptive_avg_pool2d();
  annotator.gru_inputs_and_outputs();
  for (const auto* functions : {&kAdd, &kMul}) {
    annotator.elementwise(*functions, /*with_relu=*/true);
    annotator.elementwise(*functions, /*with_relu=*/false);
  }
  annotator.cat();
}

void propagate_annotation(AnnotationTable& table) {
  // Neither relu_ nor reshape is in executorch's list (_is_share_obs_or_fq_op).
  static const Functions kSharing{"relu",    "hardtanh", "hardtanh_",           "max_pool2d", "mean",
                                  "permute", "squeeze",  "adaptive_avg_pool2d", "view",       "flatten"};
  for (const auto& node : table.view().nodes()) {
    if (!is_one_of(node, kSharing) || table.at(node.id).annotated) continue;
    if (node.type == "squeeze" && node.node->inputs().size() < 2) continue;  // the list has aten::squeeze.dim only
    const int64_t input = producer_of(table.view(), node.id);
    if (input < 0 || !table.at(input).output) continue;
    table.mark({node.id});
    table.quantize_input(node.id, input, Spec(Place{input, -1}));
    table.at(node.id).output = Spec(Place{input, -1});
  }
}

}  // namespace tsquant::xnnpack
