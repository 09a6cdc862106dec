#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tsquant/accuracy_restorer_parameters.h"
#include "tsquant/dataset.h"
#include "tsquant/model.h"
#include "tsquant/quantize_pt2e.h"
#include "tsquant/quantizer.h"

namespace tsquant {

class TapRunner;

/// A model as a validation function sees it.
class ValidationModel {
 public:
  explicit ValidationModel(const Model& model);
  ~ValidationModel();

  /// Runs one sample without gradients. Models with a state keep it from call to call.
  /// @throws Error kDataset when the sample does not fit the model
  c10::IValue operator()(const Sample& sample) const;

  /// Gives a model with a state its first state back, for example between two recordings.
  void reset();

 private:
  const Model& model_;
  std::unique_ptr<TapRunner> runner_;
};

/// What a validation function returns. A plain number converts to it.
struct ValidationResult {
  ValidationResult(double metric) : metric(metric) {}  // NOLINT: `return 0.93;` is the common case
  ValidationResult(double metric, std::vector<double> values) : metric(metric), values(std::move(values)) {}
  ValidationResult(double metric, std::vector<std::vector<at::Tensor>> outputs)
      : metric(metric), outputs(std::move(outputs)) {}

  double metric = 0;  ///< higher is better
  /// One metric per index, in order: samples are then chosen and groups ranked by metrics.
  std::vector<double> values;
  /// The model's output tensors per index, in order: samples are then chosen and groups ranked by the distance between
  /// the outputs of the float and the quantized model, which tells close groups apart on less data.
  std::vector<std::vector<at::Tensor>> outputs;
};

/// Measures a model on the samples with these indices of the validation data (item i is `data.get(indices[i])`).
///
/// ```cpp
/// auto accuracy = [&](tsquant::ValidationModel& model, const tsquant::Dataset& data,
///                     const std::vector<int64_t>& indices) -> tsquant::ValidationResult {
///   double right = 0;
///   for (int64_t i : indices) right += model(data.get(i)).toTensor().argmax().item<int64_t>() == labels[i];
///   return right / indices.size();
/// };
/// ```
/// When only a metric is returned, the function is called once more for each sample alone; when it throws for the first
/// one, the metric has no meaning for single samples and the model's outputs are used instead.
/// With several ranking workers it is called from several threads, each with a model of its own.
using ValidationFn =
    std::function<ValidationResult(ValidationModel& model, const Dataset& data, const std::vector<int64_t>& indices)>;

/// How the drop is computed from the metrics of the float and the quantized model (NNCF's DropType).
enum class DropType {
  kAbsolute,  ///< float - quantized
  kRelative,  ///< (float - quantized) / |float|
};

struct AccuracyControlOptions {
  double max_drop = 0.01;  ///< largest drop that is accepted; not negative
  DropType drop_type = DropType::kAbsolute;
  AdvancedAccuracyRestorerParameters advanced_accuracy_restorer_parameters = {};
};

/// One step of the search: a group of operators that was returned to float.
struct RevertedGroup {
  std::vector<std::string> operators;   ///< stable names
  std::vector<std::string> quantizers;  ///< where the removed quantizers stood: "node", or "node input 1"
  double score = 0;                     ///< of the ranking; the group with the highest was tried first
  double metric = 0;                    ///< with this group and those kept before in float
  double drop = 0;                      ///< the same as a drop
  /// False: two steps in a row made it worse, so this one was undone. Such a group can be tried again later.
  bool kept = true;
};

struct AccuracyControlResult {
  QuantizedModel quantized;     ///< the model with the smallest drop that was found, or the first within the limit
  double initial_metric = 0;    ///< float model
  double quantized_metric = 0;  ///< everything quantized, with the options as given
  double final_metric = 0;      ///< `quantized`
  double drop = 0;              ///< of `quantized`; not positive when it is at least as good as the float model
  bool limit_met = false;       ///< drop <= max_drop
  std::vector<RevertedGroup> steps = {};          ///< in the order in which they were tried
  std::vector<std::string> reverted = {};         ///< operators that are float in `quantized` because of this search
  std::map<std::string, std::string> tuned = {};  ///< options that tuning or convert_to_mixed_preset changed
  int64_t ranking_workers = 1;                    ///< threads that ranked
  int64_t quantizations = 1;  ///< how often the model was calibrated: once, and once per candidate of tuning
  std::map<std::string, double> seconds = {};  ///< "quantize", "validate", "tune", "rank", "restore", "total"

  /// Metrics, steps and times as a table for people.
  std::string summary() const;
};

/// quantize_pt2e with a limit on the accuracy it may cost. When the quantized model misses the limit, groups of
/// quantizers are ranked by what removing them alone brings, and removed one after another, best first, until the drop
/// is small enough or none are left. Always returns the best model found; `limit_met` says whether it is good enough.
///
/// Source: nncf.quantize_with_accuracy_control (nncf/quantization/algorithms/accuracy_control and
/// hyperparameter_tuner). Three differences: the best model is returned, not the last; with outputs instead of metrics
/// a smaller remaining error ranks higher (NNCF sorts these the other way round); restore_mode is used in ranking too.
///
/// @param quantizer asked again for each candidate when options are tuned
/// @param options   of quantization; with `do_copy` false, `model` becomes the result
/// @throws Error as quantize_pt2e; kInvalidArgument: an `exchange` in the options, convert_to_mixed_preset with another
///         quantizer than OpenVINOQuantizer or with an fp8 mode, negative max_drop, sizes below 1, values or outputs of
///         a wrong number, a metric of the float model that is not finite; kDataset: no validation data; kIo: the
///         folder for intermediate models cannot be written. What the validation function throws is passed on.
AccuracyControlResult quantize_pt2e_with_accuracy_control(Model& model, Quantizer& quantizer,
                                                          const Dataset& calibration_dataset,
                                                          const Dataset& validation_dataset,
                                                          const ValidationFn& validation_fn,
                                                          const AccuracyControlOptions& control = {},
                                                          const QuantizePt2eOptions& options = {});

}  // namespace tsquant
