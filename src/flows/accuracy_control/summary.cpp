#include <fmt/format.h>

#include "base/text_table.h"
#include "tsquant/quantize_with_accuracy_control.h"

namespace tsquant {

std::string AccuracyControlResult::summary() const {
  std::string text = fmt::format("metric: float {:.6g}, quantized {:.6g}, result {:.6g}; drop {:.6g}: limit {}\n",
                                 initial_metric, quantized_metric, final_metric, drop, limit_met ? "met" : "missed");
  for (const auto& [name, value] : tuned) text += fmt::format("tuned {}: {}\n", name, value);
  if (!steps.empty()) {
    TextTable table({"tried in float", "metric", "drop", ""});
    table.align_right({1, 2});
    for (const auto& step : steps) {
      const auto& names = step.operators.empty() ? step.quantizers : step.operators;
      table.add({fmt::format("{}", fmt::join(names, ", ")), fmt::format("{:.6g}", step.metric),
                 fmt::format("{:.6g}", step.drop), step.kept ? "" : "undone"});
    }
    text += table.text();
    text += fmt::format("returned to float: {}\n",
                        reverted.empty() ? "nothing" : fmt::format("{}", fmt::join(reverted, ", ")));
  }
  std::vector<std::string> times;
  for (const auto& [name, time] : seconds) times.push_back(fmt::format("{} {:.2f} s", name, time));
  return text + fmt::format("time: {}\n", fmt::join(times, ", "));
}

}  // namespace tsquant
