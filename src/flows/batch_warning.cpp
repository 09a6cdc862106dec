#include "flows/batch_warning.h"

#include <algorithm>

namespace tsquant {

void warn_about_batches(const Quantizer& quantizer, bool batchwise, Report& report) {
  if (!batchwise) return;
  const auto& nodes = report.nodes;
  const bool embeds = std::any_of(nodes.begin(), nodes.end(), [](const NodeRecord& node) {
    return node.type == "embedding" || node.type == "embedding_bag";
  });
  if (!embeds && !quantizer.describe().for_transformers) return;
  report.warnings.push_back(
      "statistics per item of a batch can be inaccurate for this model, because the batch need not be dimension 0 "
      "everywhere: when accuracy suffers, switch batchwise_statistics off or calibrate with batches of one");
}

}  // namespace tsquant
