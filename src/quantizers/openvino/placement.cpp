#include "quantizers/openvino/placement.h"

#include "quantizers/openvino/resolved_options.h"

#include <algorithm>
#include <memory>

#include "quantizers/openvino/pattern.h"
#include "tsquant/error.h"

namespace tsquant::openvino {

namespace {

Constraints make_constraints(const QuantizationParameters& params, QuantizationScheme mode) {
  Constraints constraints;
  constraints.mode = params.mode ? *params.mode : mode;
  constraints.num_bits = params.num_bits;
  constraints.signedness_to_force = params.signedness_to_force;
  constraints.per_channel = params.per_channel;
  constraints.narrow_range = params.narrow_range;
  return constraints;
}

/// Operators that stay in float in a transformer. The FX graph spells comparisons as functions of unknown metatype, so
/// they need no entry.
MetatypeSet metatypes_to_ignore(const OpenVINOQuantizerOptions& options) {
  if (!options.model_type) return MetatypeSet();
  const MetatypeSet set{"Add",        "Power", "Sub", "AvgPool2d", "AvgPool3d", "Mean",      "Sum",
                        "PTReduceL2", "Div",   "Max", "Squeeze",   "LayerNorm", "GroupNorm", "BatchNorm"};
  return options.target_device == TargetDevice::kCpuSpr ? set : set | MetatypeSet{"Mul"};
}

/// Operators with weights, in node order, with what the table allows for them.
std::vector<WeightedNode> weighted_nodes(const PlacementGraph& graph, const InsertionPointGraph& sites,
                                         const std::vector<OpPlan>& plans, const Constraints& constraints,
                                         const std::vector<bool>& ignored) {
  static const MetatypeSet kAtenEmbedding{"AtenEmbedding", "AtenEmbeddingBag"};
  const QConfigList defaults = {constraints.apply_to(QConfig())};
  std::vector<std::shared_ptr<const QConfigList>> lists(plans.size());
  std::vector<WeightedNode> nodes;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const int node = static_cast<int>(i);
    const auto& info = graph.nodes[i];
    if (!sites.graph->present[i] || info.kind != PlacementKind::kOperator) continue;
    const OpPlan& plan = plans[info.metatype];
    if (metatype_row(info.metatype).weight_ports.empty() || !plan.listed || kAtenEmbedding.has(info.metatype)) continue;
    if (matmul_metatypes().has(info.metatype) && !has_constant_weight(graph, node)) continue;
    auto& list = lists[info.metatype];
    if (!list) {
      list = std::make_shared<const QConfigList>(
          constraints.filter(plan.weights.empty() ? defaults : plan.weights, *info.name, "weight"));
    }
    const Site& site = sites.sites[sites.operator_of[node]];
    const bool left_out = ignored[i] || (site.ignored && site.metatype >= 0);
    // A fused operator is quantized at its start: only the weight of the first member counts.
    if (!left_out && site.node == node) nodes.push_back({node, list});
  }
  return nodes;
}

/// Half range is defined for symmetric weights only.
void check_overflow_fix(const PlacementGraph& graph, const Placement& placement) {
  for (const auto& point : placement.setup.points) {
    if (point.kind != PointKind::kWeight || !placement.half_range[point.node]) continue;
    if (point.config().mode == QuantizationScheme::kSymmetric) continue;
    throw Error(ErrorCode::kInvalidArgument, "the overflow fix needs symmetric weights", graph.name_of(point.node),
                "use symmetric weights, or set overflow_fix to disable");
  }
}

Fate fate_of(int node, const InsertionPointGraph& sites, const std::vector<bool>& user,
             const std::vector<bool>& pattern) {
  const PlacementNode& info = sites.graph->node(node);
  if (info.kind != PlacementKind::kOperator) return Fate::kNone;
  if (user[node]) return Fate::kIgnored;
  if (pattern[node]) return Fate::kIgnoredPattern;
  static const MetatypeSet kBypassed{"Dropout", "Noop"};
  if (!sites.graph->present[node]) return kBypassed.has(info.metatype) ? Fate::kNone : Fate::kConstant;
  const Site& site = sites.sites[sites.operator_of[node]];
  if (site.ignored) return site.metatype < 0 ? Fate::kNone : Fate::kIgnoredModelType;
  static const int kUnknown = metatype_index("UnknownMetatype");
  if (info.metatype == kUnknown) return Fate::kUnknown;
  if (site.node != node) return Fate::kNone;
  switch (site.trait) {
    case QuantizationTrait::kNonQuantizable:
      return Fate::kNotQuantizable;
    case QuantizationTrait::kInputsQuantizable:
      return Fate::kNoInput;
    default:
      return Fate::kNone;
  }
}

std::vector<Fate> describe_fates(const InsertionPointGraph& sites, const Setup& setup, const std::vector<bool>& user,
                                 const std::vector<bool>& pattern, const std::vector<int>& lonely) {
  std::vector<Fate> fates(sites.graph->size(), Fate::kNone);
  for (size_t i = 0; i < fates.size(); ++i) fates[i] = fate_of(static_cast<int>(i), sites, user, pattern);
  for (int site : lonely) fates[sites.sites[site].node] = Fate::kConstantOperand;
  for (const auto& point : setup.points) {
    if (point.kind != PointKind::kActivation) continue;
    for (int node : point.quantized_nodes) fates[node] = Fate::kNone;
  }
  return fates;
}

}  // namespace

Placement place_quantizers(const PlacementGraph& graph, const OpenVINOQuantizerOptions& options,
                           const std::vector<bool>& ignored) {
  const bool mixed = resolved_options(options).preset == QuantizationPreset::kMixed;
  const auto act_mode = mixed ? QuantizationScheme::kAsymmetric : QuantizationScheme::kSymmetric;
  SolverOptions solver_options;
  solver_options.rule = options.quantizer_propagation_rule;
  solver_options.quantize_outputs = options.quantize_outputs;
  solver_options.attention_values = options.mode.has_value();
  solver_options.activations = make_constraints(options.activations_quantization_params, act_mode);
  const auto weights = make_constraints(options.weights_quantization_params, QuantizationScheme::kSymmetric);

  const auto plans = make_hardware_table(options.target_device, eight_bit(options));
  const InferenceGraph inference = make_inference_graph(graph);
  const bool attention = options.target_device != TargetDevice::kCpuSpr;
  std::vector<bool> by_pattern(graph.nodes.size(), false), left_out = ignored;
  for (const auto& match : find_matches(inference, ignored_patterns(options.model_type.has_value(), attention))) {
    for (int node : match) left_out[node] = by_pattern[node] = true;
  }
  Placement placement;
  placement.fused = find_matches(inference, fused_patterns());
  const InsertionPointGraph sites =
      make_site_graph(inference, placement.fused, left_out, metatypes_to_ignore(options), plans);
  const auto weighted = weighted_nodes(graph, sites, plans, weights, left_out);

  PropagationState state(sites);
  const auto finished = PropagationSolver(state, plans, solver_options).run();
  const auto lonely = filter_travellers(state, finished);
  placement.setup = make_setup(state, weighted);
  if (options.model_type) apply_transformer_pass(placement.setup, graph);
  if (options.target_device == TargetDevice::kCpuSpr) apply_spr_pass(placement.setup, inference);
  placement.half_range = half_range_nodes(graph, placement.setup, *resolved_options(options).overflow_fix);
  check_overflow_fix(graph, placement);
  placement.fates = describe_fates(sites, placement.setup, ignored, by_pattern, lonely);
  return placement;
}

}  // namespace tsquant::openvino
