#pragma once

#include <memory>
#include <string>

#include "tsquant/algorithm_parameters.h"
#include "tsquant/dataset.h"
#include "tsquant/engine.h"
#include "tsquant/model.h"
#include "tsquant/output_form.h"
#include "tsquant/progress.h"
#include "tsquant/quantizer.h"
#include "tsquant/range_estimator.h"
#include "tsquant/report.h"

namespace tsquant {

class StatisticsExchange;  // distributed.h

struct QuantizePt2eOptions {
  int64_t subset_size = 300;  ///< number of calibration samples (batches) used; must be at least 1
  /// Replace quantized weights by their integer codes. False keeps float weights followed by quantize/dequantize; not
  /// in the lowered form, whose kernels read codes.
  bool fold_quantize = true;
  OutputForm form = OutputForm::kDecomposed;
  /// Lowered form: "tsquant", "onednn", "qnnpack" or "fbgemm"; empty: default_engine().
  std::string engine = "";
  LoweringCost cost = LoweringCost::kTable;  ///< lowered form
  /// Per-tensor activation statistics per item of dimension 0 instead of per batch; none: when the data set's batch
  /// size is larger than 1.
  c10::optional<bool> batchwise_statistics = c10::nullopt;
  /// True: a tensor is reduced to its statistics as soon as the model has computed it, so that no activation is kept.
  /// False: the tensors of all points of a sample are kept and reduced after its run. The statistics are the same.
  bool inplace_statistics = true;
  /// True: correct biases for the mean error of quantized weights (FastBiasCorrection). None: leave biases as they are.
  /// False: the accurate algorithm (BiasCorrection), which re-runs sub-graphs with the biases corrected so far.
  c10::optional<bool> fast_bias_correction = true;
  BiasCorrectionParameters bias_correction_params = {};
  bool smooth_quant = false;  ///< run SmoothQuant before the quantizer annotates
  SmoothQuantParameters smooth_quant_params = {};
  bool channel_alignment = false;  ///< run ChannelAlignment before the quantizer annotates
  /// Unset fields: what ObserverKind::kDefault says. As soon as one field is set, the others are NNCF's defaults: the
  /// rule that covers 95 of 100 samples, for the model's inputs too, is for estimators of which nothing was chosen
  /// (RangeEstimatorParameters::mean_minmax() gives NNCF's ranges for per-tensor activations).
  RangeEstimatorParameters activations_range_estimator_params = {};
  RangeEstimatorParameters weights_range_estimator_params = {};
  bool allow_empty = false;  ///< accept a model in which nothing could be quantized
  bool do_copy = true;       ///< false: edit the given model in place instead of a copy
  /// Rewrites of the graph to leave out, by name (Report::rewrites has them all). What the result needs, such as the
  /// insertion of quantizers, cannot be left out.
  std::vector<std::string> skip_passes = {};
  /// Folder for the graph after each rewrite that changed something: NNN_<rewrite>.ir, and 000_captured.ir before the
  /// first. It is made when it is missing; graphs of an earlier run are removed. Accuracy control writes those of
  /// its first quantization. Empty: none. The result is the same.
  std::string dump_dir = "";
  Progress progress = {};
  /// Directory of the statistics cache: read when it holds statistics of the same model, data and settings, written
  /// otherwise. Empty: no cache.
  std::string statistics_path = "";
  /// Files for one run's statistics: written after collecting, or read instead of running the data. Statistics of
  /// another model, other data or other settings are an Error kCalibration that names the key that differs.
  std::string statistics_out = "", statistics_in = "";
  /// Calibration across processes; null: this process alone. See distributed.h.
  std::shared_ptr<StatisticsExchange> exchange = nullptr;
};

/// A quantized model and what was done to it.
struct QuantizedModel {
  Model model;
  Report report;
  Sample probe;  ///< the first calibration sample, for the check after saving
  /// Writes the archive with the report, the form and the needed engine; reloads it and compares its output on
  /// `probe` bit for bit before the file takes its name. @throws Error kIo, kInternal
  void save(const std::string& path) const;
};

/// Post-training quantization (nncf.experimental.torch.fx.quantize_pt2e).
///
/// The same model, data and options give the same file for any number of threads (at::set_num_threads): each operator
/// runs on one thread, and up to 16 samples, but no more than there are threads, are at work at a time.
///
/// ```cpp
/// auto model = tsquant::Model::load("model.pt");
/// tsquant::OpenVINOQuantizer quantizer;
/// auto result = tsquant::quantize_pt2e(model, quantizer, data);
/// result.save("model_int8.pt");
/// ```
/// @throws Error kInvalidArgument (subset_size < 1, unknown engine, parameters of an algorithm that is switched off,
///         range estimators that no observer of this quantizer reads, rewrites that cannot be left out), kIo
///         (dump_dir), kDataset (empty, wrong shape or dtype), kCalibration (NaN or Inf in the data), kUnsupportedModel
///         (nothing quantized and !allow_empty), kBackendUnavailable, kCancelled
QuantizedModel quantize_pt2e(Model& model, Quantizer& quantizer, const Dataset& calibration_dataset,
                             const QuantizePt2eOptions& options = {});

}  // namespace tsquant
