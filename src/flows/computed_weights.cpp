#include "flows/computed_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "graph/constant_expressions.h"
#include "graph/weighted_layer.h"

namespace tsquant {

namespace {

/// The edge that brings a layer its weight; null for operators that are no layers.
const ViewEdge* weight_edge(const GraphView& view, const ViewNode& node) {
  if (node.kind != NodeKind::kOperator) return nullptr;
  if (layer_kind(node.node) != LayerKind::kNone) return view.input_edge(node, 1);
  return node.type == "embedding" || node.type == "embedding_bag" ? view.input_edge(node, 0) : nullptr;
}

bool is_ignored(const Report& report, const std::string& node) {
  const auto found = std::find_if(report.nodes.begin(), report.nodes.end(),
                                  [&](const NodeRecord& record) { return record.name == node; });
  return found != report.nodes.end() && !found->quantized && found->code.rfind("ignored", 0) == 0;
}

}  // namespace

std::map<std::string, std::string> find_computed_weights(const GraphView& view, const Report& report) {
  std::map<std::string, std::string> layers;
  std::unique_ptr<ConstantExpressions> expressions;
  for (const ViewNode& node : view.nodes()) {
    const ViewEdge* edge = weight_edge(view, node);
    if (!edge || view.node(edge->from).kind == NodeKind::kParameter || is_ignored(report, node.name)) continue;
    if (!expressions) expressions = std::make_unique<ConstantExpressions>(view.model());
    const std::string& reason = expressions->obstacle(edge->value);
    layers[node.name] = reason.empty() ? "could not be computed in advance" : reason;
  }
  return layers;
}

void warn_about_computed_weights(const std::map<std::string, std::string>& layers, Report& report) {
  for (const auto& [node, reason] : layers) {
    report.warnings.push_back(
        fmt::format("{}: the graph computes the weight in every run, and it stays in float: it {}", node, reason));
  }
}

void explain_kernels(const std::map<std::string, std::string>& layers, Report& report) {
  for (auto& node : report.nodes) {
    if (layers.count(node.name) && node.kernel.rfind("Q/DQ", 0) == 0) {
      node.kernel = "Q/DQ: the graph computes the weight in every run";
    }
  }
}

}  // namespace tsquant
