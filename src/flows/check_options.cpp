#include "flows/check_options.h"

#include <fmt/format.h>

#include <algorithm>

#include "algorithms/smooth_quant.h"
#include "tsquant/error.h"

namespace tsquant {

const char* form_name(OutputForm form) {
  switch (form) {
    case OutputForm::kDecomposed:
      return "decomposed";
    case OutputForm::kReference:
      return "reference";
    case OutputForm::kFakeQuantize:
      return "fake_quantize";
    case OutputForm::kLowered:
      return "lowered";
  }
  return "unknown";
}

void check_options(const QuantizePt2eOptions& options, const Dataset& dataset) {
  if (options.subset_size < 1) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("subset_size is {}", options.subset_size), "subset_size",
                "use at least 1 sample; 300 is the default");
  }
  if (!options.engine.empty() && options.form != OutputForm::kLowered) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("an engine was named, but the {} form runs on none", form_name(options.form)), "engine",
                "ask for the lowered form or leave the engine out");
  }
  check_smooth_quant(options.smooth_quant_params);
  if (dataset.count(1) == 0) {
    throw Error(ErrorCode::kDataset, "the calibration data set is empty", "calibration_dataset",
                "give at least one sample");
  }
}

std::string checked_engine(const QuantizePt2eOptions& options) {
  if (options.form != OutputForm::kLowered) return "";
  const auto engines = available_engines();
  const std::string engine = options.engine.empty() ? default_engine() : options.engine;
  if (std::find(engines.begin(), engines.end(), engine) == engines.end()) {
    throw Error(ErrorCode::kBackendUnavailable, fmt::format("unknown or unavailable engine \"{}\"", engine), "engine",
                fmt::format("engines of this build: {}", fmt::join(engines, ", ")));
  }
  return engine;
}

void record_options(Report& report, const QuantizePt2eOptions& options, const Dataset& dataset) {
  report.version = TSQUANT_VERSION;
  report.form = form_name(options.form);
  report.options["subset_size"] = std::to_string(options.subset_size);
  report.options["fold_quantize"] = options.fold_quantize ? "true" : "false";
  report.options["smooth_quant"] = options.smooth_quant ? "true" : "false";
  report.options["channel_alignment"] = options.channel_alignment ? "true" : "false";
  if (options.smooth_quant) {
    report.options["smooth_quant_alpha"] = fmt::format(
        "convolution {:g}, matmul {:g}", options.smooth_quant_params.convolution, options.smooth_quant_params.matmul);
  }
  report.options["data_length"] = dataset.get_length() ? std::to_string(*dataset.get_length()) : "unknown";
  report.options["batch_size"] = std::to_string(dataset.batch_size());
  report.options["skip_passes"] = fmt::format("{}", fmt::join(options.skip_passes, ","));
}

}  // namespace tsquant
