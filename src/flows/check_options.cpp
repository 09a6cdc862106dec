#include "flows/check_options.h"

#include "io/output_target.h"
#include "options/check_fields.h"
#include "options/tables.h"
#include "passes/rewrite_registry.h"
#include "tsquant/error.h"

namespace tsquant {

void check_options(const QuantizePt2eOptions& options, const Dataset& dataset) {
  check_limits(options);
  check_unused(options);
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
