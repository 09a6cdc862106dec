#include "flows/build_report.h"

#include <fmt/format.h>

#include <set>

#include "graph/op_table.h"
#include "numerics/fp8.h"

namespace tsquant {

namespace {

std::set<std::string> quantized_names(const Annotations& annotations) {
  std::set<std::string> names;
  for (const auto& point : annotations.points) names.insert(point.quantized_nodes.begin(), point.quantized_nodes.end());
  return names;
}

/// Edges that carry a quantizer: all consumers of a point after a node, one edge of a point before an argument.
std::vector<bool> quantized_edges(const GraphView& view, const Annotations& annotations) {
  std::vector<bool> edges(view.edges().size(), false);
  for (const auto& point : annotations.points) {
    const ViewNode* node = view.find(point.node);
    if (!node) continue;
    if (point.input_port) {
      const ViewEdge* edge = view.input_edge(*node, *point.input_port);
      if (edge) edges[edge - view.edges().data()] = true;
    } else {
      for (int64_t id : node->out_edges) edges[id] = true;
    }
  }
  return edges;
}

/// An activation between a quantized operator and a quantizer is computed before the result is rounded to codes.
bool is_fused(const GraphView& view, const ViewNode& node, const std::set<std::string>& names,
              const std::vector<bool>& quantized) {
  static const std::set<std::string> kActivations{
      "relu", "relu_", "relu6",     "hardtanh",   "hardtanh_",   "leaky_relu", "elu",  "elu_",  "gelu",
      "silu", "silu_", "hardswish", "hardswish_", "hardsigmoid", "sigmoid",    "tanh", "prelu", "selu"};
  if (!kActivations.count(node.type) || node.in_edges.empty() || node.out_edges.empty()) return false;
  if (!names.count(view.node(view.edge(node.in_edges.front()).from).name)) return false;
  if (quantized[node.in_edges.front()]) return false;
  return std::all_of(node.out_edges.begin(), node.out_edges.end(), [&](int64_t edge) { return quantized[edge]; });
}

bool carries_codes(const ViewNode& node, const std::vector<bool>& quantized) {
  const auto trait = node.op->default_trait;
  if (trait != QuantizationTrait::kQuantizationAgnostic && trait != QuantizationTrait::kConcat) return false;
  return !node.in_edges.empty() && quantized[node.in_edges.front()];
}

}  // namespace

void describe_nodes(Report& report, const GraphView& view, const Annotations& annotations) {
  const auto names = quantized_names(annotations);
  const auto edges = quantized_edges(view, annotations);
  std::map<std::string, const Refusal*> refusals;
  for (const auto& refusal : annotations.refusals) refusals.emplace(refusal.node, &refusal);
  for (const auto& node : view.nodes()) {
    if (node.kind != NodeKind::kOperator) continue;
    NodeRecord record;
    record.name = node.name;
    record.fx_name = node.fx_name;
    record.type = node.type;
    record.quantized = names.count(node.name) > 0;
    const auto refusal = refusals.find(node.name);
    if (record.quantized) {
      record.code = "quantized";
      record.reason = "reads quantized tensors";
    } else if (carries_codes(node, edges)) {
      record.code = "passes_codes";
      record.reason = "moves quantized values without computing on them";
    } else if (is_fused(view, node, names, edges)) {
      record.code = "fused";
      record.reason = "part of the quantized operator before it";
    } else if (refusal != refusals.end()) {
      record.code = refusal->second->code;
      record.reason = refusal->second->reason;
    } else {
      record.code = "not_quantizable";
      record.reason = "the hardware table has no integer form of this operator";
    }
    report.nodes.push_back(std::move(record));
  }
}

void describe_quantizers(Report& report, const Annotations& annotations, const QParamTable& qparams,
                         const StatTable& stats) {
  for (const auto& point : annotations.points) {
    const auto found = qparams.find(point.id);
    if (found == qparams.end()) {
      report.warnings.push_back(fmt::format("no sample reached {}: it stays in float", point.node));
      continue;
    }
    const QParams& q = found->second;
    QuantizerRecord record;
    record.id = point.id;
    record.kind = point.kind == PointKind::kWeight ? "weight" : "activation";
    record.node = point.node;
    record.input_port = point.input_port.value_or(-1);
    record.dtype = q.destination_type ? format_name(*q.destination_type) : q.dtype == c10::kChar ? "qint8" : "quint8";
    record.quant_min = q.quant_min;
    record.quant_max = q.quant_max;
    const auto scale = q.scale.to(c10::kDouble).contiguous(), zero_point = q.zero_point.to(c10::kLong).contiguous();
    record.scale.assign(scale.data_ptr<double>(), scale.data_ptr<double>() + scale.numel());
    record.zero_point.assign(zero_point.data_ptr<int64_t>(), zero_point.data_ptr<int64_t>() + zero_point.numel());
    if (q.range.min.defined() && q.range.min.numel() > 0) {
      record.min = q.range.min.min().item<double>();
      record.max = q.range.max.max().item<double>();
    }
    const auto observer = stats.observers.find(point.id);
    if (observer != stats.observers.end()) record.non_finite = observer->second->non_finite();
    report.quantizers.push_back(std::move(record));
  }
}

std::string grouped_reasons(const Report& report) {
  std::map<std::string, int> counts;
  for (const auto& node : report.nodes) {
    if (!node.quantized) ++counts[fmt::format("{} ({}: {})", node.type, node.code, node.reason)];
  }
  std::vector<std::string> lines;
  for (const auto& [reason, count] : counts) lines.push_back(fmt::format("{} x {}", count, reason));
  return fmt::format("{}", fmt::join(lines, "; "));
}

}  // namespace tsquant
