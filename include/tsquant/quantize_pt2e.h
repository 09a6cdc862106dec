#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "tsquant/backend.h"
#include "tsquant/dataset.h"
#include "tsquant/model.h"
#include "tsquant/quantizer.h"
#include "tsquant/range_estimator.h"
#include "tsquant/report.h"

namespace tsquant {

/// Which operators the written file contains.
enum class OutputForm {
  kDecomposed,    ///< quantized_decomposed::*; needs libtsquant_ops.so at run time
  kReference,     ///< aten::quantize_per_tensor / _per_channel and aten::dequantize; plain LibTorch
  kFakeQuantize,  ///< aten::fake_quantize_per_*_affine; plain LibTorch
  kLowered,       ///< integer kernels of `engine`
};

/// Lowered form: what happens to operators that take longer on codes, with the conversions around them, than in float.
enum class LoweringCost {
  kTable,    ///< they stay in float, judged by a table of rates for all processors: the same file on every machine
  kMeasure,  ///< they stay in float, judged by rates that are measured on this machine
  kOff,      ///< everything that the engine can compute is lowered
};

/// Called after each calibration sample; return false to cancel (throws Error kCancelled).
using Progress = std::function<bool(const std::string& phase, int64_t done, int64_t total)>;

/// What the mean output of a layer with quantized weights is compared with.
enum class BiasReference {
  /// The layer's own mean output with float weights, on the same inputs: takes back the error of this layer's weights.
  kSimulated,
  /// The mean output of the float model, with NNCF's numbers: fast, zero padding counts as an error too, which costs
  /// accuracy; accurate, layers behind a merge of branches see the corrections of one branch only.
  kCollected,
};

/// NNCF's AdvancedBiasCorrectionParameters.
struct BiasCorrectionParameters {
  /// True: quantized layers without a bias get one, whatever the threshold. False: only layers that have a bias are
  /// corrected.
  bool apply_for_all_nodes = false;
  /// Largest allowed |shift / bias| of a layer; layers above it keep their bias. None: no limit for kSimulated, whose
  /// shift has no noise; otherwise NNCF's, 2 for the fast algorithm and 1000 for the accurate one.
  c10::optional<double> threshold = c10::nullopt;
  /// None: fast: kSimulated; accurate: the mean output of the float model, seeing all corrections made so far.
  c10::optional<BiasReference> reference = c10::nullopt;
  /// Smallest shift worth writing, in standard deviations of the noise that rounding the layer's input makes in that
  /// output channel (step / sqrt(12) times the Euclidean norm of the channel's weights). Channels below keep their
  /// bias: shifts of 8-bit weights are mostly far below that noise, and writing them changes as many results for the
  /// worse as for the better. 0: every shift. None: 0.5; with kCollected 0, as NNCF.
  c10::optional<double> smallest_shift = c10::nullopt;
};

/// NNCF's AdvancedSmoothQuantParameters: how much of the range moves from activations to weights, by kind of layer.
/// 0 leaves activations as they are, 1 makes all activation channels equally wide; a negative value switches the kind
/// off. @throws Error kInvalidArgument above 1
struct SmoothQuantParameters {
  double convolution = -1;  ///< convolutions
  double matmul = 0.95;     ///< linear layers
};

class StatisticsExchange;  // distributed.h

struct QuantizePt2eOptions {
  int64_t subset_size = 300;  ///< number of calibration samples (batches) used; must be at least 1
  /// Replace quantized weights by their integer codes. False keeps float weights followed by quantize/dequantize.
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
  bool allow_empty = false;                   ///< accept a model in which nothing could be quantized
  bool do_copy = true;                        ///< false: edit the given model in place instead of a copy
  std::vector<std::string> skip_passes = {};  ///< float-to-float passes to leave out, by name
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
///         range estimators that no observer of this quantizer reads), kDataset (empty, wrong shape or dtype),
///         kCalibration (NaN or Inf in the data), kUnsupportedModel (nothing quantized and !allow_empty),
///         kBackendUnavailable, kCancelled
QuantizedModel quantize_pt2e(Model& model, Quantizer& quantizer, const Dataset& calibration_dataset,
                             const QuantizePt2eOptions& options = {});

}  // namespace tsquant
