#include "flows/check_options.h"

#include <fmt/format.h>

#include <algorithm>

#include "algorithms/smooth_quant.h"
#include "io/output_target.h"
#include "passes/rewrite_registry.h"
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

namespace {

/// Parameters of an algorithm that does not run would be ignored.
[[noreturn]] void refuse_unused(const std::string& parameter, const std::string& algorithm) {
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{} is set, but {}", parameter, algorithm), parameter,
              "leave it out, or switch the algorithm on");
}

void check_bias_correction(const QuantizePt2eOptions& options) {
  const auto& params = options.bias_correction_params;
  if (params.threshold && !(*params.threshold >= 0)) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("the threshold of bias correction is {}", *params.threshold),
                "bias_correction_params.threshold", "use 0 or more");
  }
  if (params.smallest_shift && !(*params.smallest_shift >= 0)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the smallest shift of bias correction is {}", *params.smallest_shift),
                "bias_correction_params.smallest_shift", "use 0 or more");
  }
  if (options.fast_bias_correction) return;
  const std::string none = "biases are not corrected (fast_bias_correction is none or disable_bias_correction is true)";
  if (params.threshold) refuse_unused("bias_correction_params.threshold", none);
  if (params.apply_for_all_nodes) refuse_unused("bias_correction_params.apply_for_all_nodes", none);
  if (params.reference) refuse_unused("bias_correction_params.reference", none);
  if (params.smallest_shift) refuse_unused("bias_correction_params.smallest_shift", none);
}

void check_smoothing(const QuantizePt2eOptions& options) {
  check_smooth_quant(options.smooth_quant_params);
  if (options.smooth_quant) return;
  const SmoothQuantParameters& given = options.smooth_quant_params;
  const SmoothQuantParameters unset;
  const std::string off = "smooth_quant is false";
  if (given.convolution >= 0 && given.convolution != unset.convolution) {
    refuse_unused("smooth_quant_params.convolution", off);
  }
  if (given.matmul >= 0 && given.matmul != unset.matmul) refuse_unused("smooth_quant_params.matmul", off);
}

}  // namespace

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
  if (options.cost != LoweringCost::kTable && options.form != OutputForm::kLowered) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the cost of kernels was chosen, but the {} form has none", form_name(options.form)),
                "cost", "ask for the lowered form or leave the cost out");
  }
  check_bias_correction(options);
  check_smoothing(options);
  check_skipped(options.skip_passes);
  if (!options.dump_dir.empty()) check_output_folder(options.dump_dir, "dumped graphs");
  if (dataset.count(1) == 0) {
    throw Error(ErrorCode::kDataset, "the calibration data set is empty", "calibration_dataset",
                "give at least one sample");
  }
}

std::string checked_engine(const QuantizePt2eOptions& options) {
  if (options.form != OutputForm::kLowered) return "";
  const std::string engine = options.engine.empty() ? default_engine() : options.engine;
  const EngineGuard usable(engine);  // throws, with the engines that can be used
  return engine;
}

}  // namespace tsquant
