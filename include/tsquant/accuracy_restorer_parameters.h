#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Optional.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace tsquant {

/// What becomes of an operator that accuracy control reverts (NNCF's RestoreMode).
enum class RestoreMode {
  kActivationsAndWeights,  ///< all its quantizers are removed: it computes on floats
  kOnlyActivations,        ///< weights stay quantized (and small on disk), only the activation quantizers are removed
};

/// Error of the outputs of one sample: larger is worse, 0 for equal outputs.
using RankingFn =
    std::function<double(const std::vector<at::Tensor>& reference, const std::vector<at::Tensor>& approximate)>;

/// NNCF's AdvancedAccuracyRestorerParameters.
struct AdvancedAccuracyRestorerParameters {
  /// Largest number of groups of operators that are tried. 0: only quantize and measure.
  int64_t max_num_iterations = std::numeric_limits<int64_t>::max();
  /// Before operators are reverted, search the options of quantization one after another: SmoothQuant's alpha (when
  /// SmoothQuant is on), propagation rule, preset (both with OpenVINOQuantizer), range estimators of weights and
  /// activations, bias correction. Calibrates once per candidate.
  bool tune_hyperparams = false;
  /// Replaces the normalised mean squared error when validation returns outputs; metrics are compared by difference.
  RankingFn ranking_fn = {};
  /// Validation samples that rank groups and candidates: those on which the float and the quantized model differ most.
  /// None: subset_size of the calibration.
  c10::optional<int64_t> ranking_subset_size = c10::nullopt;
  /// Groups ranked at the same time, each in a thread with a model of its own; the validation function is then called
  /// from several threads. The ranking does not depend on it. None: one when converting the model takes less than a
  /// second, otherwise by NNCF's formula from the times of conversion and validation and the number of cores.
  c10::optional<int64_t> num_ranking_workers = c10::nullopt;
  /// Folder for `intermediate_model.pt` (quantized with the initial options, nothing reverted) and `best_model.pt`
  /// (the best so far, replaced as the search goes on). Made when it does not exist. Empty: nothing is written.
  std::string intermediate_model_dir = "";
  RestoreMode restore_mode = RestoreMode::kActivationsAndWeights;
  /// When the limit is missed with symmetric activations, try the mixed preset before anything is reverted, and keep it
  /// when it is better. An Error kInvalidArgument with another quantizer than OpenVINOQuantizer, or with an fp8 mode.
  bool convert_to_mixed_preset = false;
};

}  // namespace tsquant
