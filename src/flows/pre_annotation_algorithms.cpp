#include "flows/pre_annotation_algorithms.h"

#include <fmt/format.h>

#include "algorithms/channel_alignment.h"
#include "algorithms/smooth_quant.h"

namespace tsquant {

void run_pre_annotation_algorithms(RewriteRunner& runner, Report& report, PhaseClock& clock, const Dataset& dataset,
                                   const QuantizePt2eOptions& options, const CalibrationOptions& calibration) {
  const auto record = [&report](const char* option, size_t done, int64_t found,
                                const std::vector<std::string>& warnings, const char* algorithm, const char* missing) {
    report.options[option] = fmt::format("{} of {}", done, found);
    if (found == 0) report.warnings.push_back(fmt::format("{} has no effect: the model has no {}", algorithm, missing));
    report.warnings.insert(report.warnings.end(), warnings.begin(), warnings.end());
  };
  if (options.smooth_quant) {
    clock.start("smooth_quant");
    runner.run("smooth_quant", [&](RewriteContext& ctx) {
      const auto result = smooth_quant(ctx.model, dataset, options.smooth_quant_params, calibration);
      record("groups_smoothed", result.groups.size(), result.found, result.warnings, "SmoothQuant",
             "layers that it smooths");
      return !result.groups.empty();
    });
  }
  if (options.channel_alignment) {
    clock.start("channel_alignment");
    runner.run("align_channels", [&](RewriteContext& ctx) {
      const auto result = align_channels(ctx.model, dataset, calibration);
      record("pairs_aligned", result.pairs.size(), result.found, result.warnings, "ChannelAlignment",
             "pair of layers whose channels it aligns");
      return !result.pairs.empty();
    });
  }
}

}  // namespace tsquant
