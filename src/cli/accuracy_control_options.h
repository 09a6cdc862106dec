#pragma once

#include <string>

#include "cli/options.h"
#include "tsquant/quantize_with_accuracy_control.h"

namespace tsquant::cli {

/// `--max-drop`, or the limit of a configuration, and what belongs to it.
struct AccuracyArgs {
  AccuracyControlOptions control;
  const CLI::Option* max_drop = nullptr;
  bool in_config = false;  ///< a configuration file gave `control`
  bool has_limit() const { return in_config || max_drop->count() > 0; }
  std::string metric = "top1";
  std::string data, labels;  ///< empty: those of the calibration
  int64_t batch_size = 32, limit = 0;
  std::vector<const CLI::Option*> validation_flags;
};
void add_accuracy_options(CLI::App& app, AccuracyArgs& args);

/// Validation needs a limit. A share cannot drop by more than 1: such a limit is meant as a percentage.
/// @throws Error kInvalidArgument
void check_accuracy_options(const AccuracyArgs& args);

/// Quantizes with the limit; inputs, normalisation and labels are those of the calibration data unless given.
/// @throws Error as quantize_pt2e_with_accuracy_control; kDataset, kInvalidArgument (unknown metric)
AccuracyControlResult quantize_within_limit(Model& model, Quantizer& quantizer, const Dataset& calibration,
                                            const DataArgs& calibration_args, const AccuracyArgs& args,
                                            const QuantizePt2eOptions& options);

/// The result as a JSON object, for `--json`.
std::string accuracy_json(const AccuracyControlResult& result);

/// @throws Error kAccuracyLimit with the gap when the limit was missed
void require_limit(const AccuracyControlResult& result, const AccuracyArgs& args, const std::string& output);

}  // namespace tsquant::cli
