#include "flows/bias_notes.h"

#include <fmt/format.h>

#include <cmath>

#include "graph/op_table.h"

namespace tsquant {

std::map<std::string, std::string> bias_notes(const GraphView& view, const Annotations& annotations,
                                              const std::vector<BiasRecord>& records) {
  std::map<std::string, std::string> notes;
  for (const auto& point : annotations.points) {
    const ViewNode* node = view.find(point.node);
    if (point.kind != PointKind::kWeight || !node || !node->op) continue;
    const bool lacks_bias = node->op->bias_port >= 0 && !view.input_edge(*node, node->op->bias_port);
    notes[point.node] = lacks_bias ? "kept: there is no bias" : "kept: layers of this kind cannot be corrected here";
  }
  for (const auto& record : records) {
    notes[record.node] =
        record.corrected ? "corrected"
        : record.noise   ? "kept: the correction is below the noise of rounding"
        : std::isfinite(record.magnitude)
            ? fmt::format("kept: the correction is {:.3g} times the bias, not below the threshold", record.magnitude)
            : "kept: the correction is not finite relative to the bias, as for a bias of zero";
  }
  return notes;
}

}  // namespace tsquant
