#include "quantizers/openvino/fused_groups.h"

#include <vector>

namespace tsquant::openvino {

void describe_fused(const GraphView& view, const Placement& placement, Annotations& annotations) {
  std::vector<bool> quantized(view.nodes().size(), false);
  for (const auto& point : placement.setup.points) {
    for (int node : point.quantized_nodes) quantized[node] = true;
  }
  for (const auto& group : placement.fused) {
    const std::string& first = view.node(group.front()).name;
    for (size_t i = 1; i < group.size(); ++i) {
      if (quantized[group[i]] || placement.fates[group[i]] != Fate::kNone) continue;
      const std::string& name = view.node(group[i]).name;
      annotations.refusals.push_back(
          quantized[group.front()]
              ? Refusal{name, "fused", "runs inside " + first}
              : Refusal{name, "fused_with_float", "runs inside " + first + ", which stays in float"});
    }
  }
}

}  // namespace tsquant::openvino
