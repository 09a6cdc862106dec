#include "quantizers/openvino/fused_groups.h"

#include <unordered_set>

namespace tsquant::openvino {

void describe_fused(const GraphView& view, const std::vector<std::vector<int>>& groups, Annotations& annotations) {
  if (groups.empty()) return;
  std::unordered_set<std::string> quantized, described;
  for (const auto& point : annotations.points) {
    quantized.insert(point.quantized_nodes.begin(), point.quantized_nodes.end());
  }
  for (const auto& refusal : annotations.refusals) described.insert(refusal.node);
  for (const auto& group : groups) {
    const std::string& first = view.node(group.front()).name;
    const bool in_integers = quantized.count(first) > 0;
    for (size_t i = 1; i < group.size(); ++i) {
      const std::string& name = view.node(group[i]).name;
      if (quantized.count(name) || described.count(name)) continue;
      annotations.refusals.push_back(
          in_integers ? Refusal{name, "fused", "runs inside " + first}
                      : Refusal{name, "fused_with_float", "runs inside " + first + ", which stays in float"});
    }
  }
}

}  // namespace tsquant::openvino
