#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tsquant/compression_parameters.h"
#include "tsquant/dataset.h"
#include "tsquant/model.h"
#include "tsquant/output_form.h"
#include "tsquant/progress.h"
#include "tsquant/quantize_pt2e.h"
#include "tsquant/quantizer.h"
#include "tsquant/report.h"

namespace tsquant {

/// Which algorithms choose codes and scales.
enum class CompressionQuality {
  kNncf,  ///< NNCF's, as the options awq, scale_estimation, gptq and lora_correction say
  kBest,  ///< this library's: searched scales; with data also GPTQ in the order of the inputs' importance, coordinate
          ///< descent with refitted scales, and biases that make up for the mean error that is left
};

/// Options of compress_pt2e; the first eight are those of nncf.experimental.torch.fx.compress_pt2e.
struct CompressPt2eOptions {
  c10::optional<Dataset> dataset = c10::nullopt;  ///< calibration samples, for whatever looks at activations
  bool awq = false;               ///< scale input channels, by data where there are any (AdvancedAWQParameters)
  bool scale_estimation = false;  ///< needs data (AdvancedScaleEstimationParameters)
  bool gptq = false;              ///< needs data (AdvancedGPTQParameters)
  bool lora_correction = false;   ///< needs data (AdvancedLoraCorrectionParameters)
  int64_t subset_size = 128;      ///< samples whose statistics are collected; algorithms pick their own number of them
  /// Share of the parameters of ratio-defining weights in the primary precision, 0 to 1; the others, those with the
  /// highest sensitivity, get the backup precision.
  double ratio = 1;
  /// None: kMaxActivationVariance with data, else kWeightQuantizationError. Of no effect when ratio is 1.
  c10::optional<SensitivityMetric> sensitivity_metric = c10::nullopt;
  /// What the quantizer decides is taken from its own options, not from here: group_size_fallback_mode,
  /// min_adjusted_group_size, and the codebook of kCodebook.
  AdvancedCompressionParameters advanced_parameters = {};

  CompressionQuality quality = CompressionQuality::kNncf;
  /// kFQ and kFQLora: weights stay float, behind quantizers of integers that can be trained, alone or with low-rank
  /// adapters. All operators are LibTorch's; what is trained are those of `module().parameters()` that require
  /// gradients. `strip` makes codes or floats of the result.
  CompressionFormat compression_format = CompressionFormat::kDQ;
  /// Bytes of the result's tensors as a share of those of the float model, above 0 and at most 1: each ratio-defining
  /// weight gets 2, 3, 4 or 8 bits so that the sum of relative errors of layers is smallest. For modes of integers with
  /// fewer than 8 bits, in the place of `ratio`; group size and zero points are those of the mode.
  c10::optional<double> target_size = c10::nullopt;
  /// The same for the mean number of bits that a value of a ratio-defining weight takes, scales included.
  c10::optional<double> target_bits_per_weight = c10::nullopt;
  /// kReference: plain operators that unpack codes, for LibTorch and Python without a library and for OpenVINO's
  /// TorchScript front end. kLowered: fused operators of libtsquant_ops.so that read the packed codes. kFakeQuantize:
  /// the compression format kFQ. The compression formats kFQ and kFQLora have that form whatever stands here.
  OutputForm form = OutputForm::kReference;
  /// The lowered form alone: linear layers on integer codes quantize their inputs to 8 bits while they run, symmetric,
  /// with a scale for every group of the weight (a row for weights without groups) of every row of the input, and
  /// multiply integers (tsquant::linear_compressed_dynamic). Prompts run faster; results differ from those of float
  /// activations by the rounding of inputs to 8 bits. Other formats, and groups of more than 65536 values, keep float
  /// activations, and the weight's record says so.
  bool dynamic_activations = false;
  /// True: decide only. The report says what each weight would get; the model stays as it is. Values of weights are
  /// read where they decide (`ratio`, targets, data), and a part at a time to refuse what the run would refuse.
  bool dry_run = false;
  bool do_copy = true;                        ///< false: edit the given model in place instead of a copy
  std::vector<std::string> skip_passes = {};  ///< rewrites to leave out, as in QuantizePt2eOptions
  std::string dump_dir = "";                  ///< folder for the graph after each rewrite, as in QuantizePt2eOptions
  /// Folder where statistics of samples and the results of layers that take long (AWQ, GPTQ, scale estimation and
  /// search, codebooks, low-rank correction) are kept while the weights are compressed. A later call with the same
  /// model, samples and options takes them from there, and its result has the same bytes as that of a run without
  /// interruption. The folder is made when it is missing; it may hold results of several runs, and stays. Empty:
  /// nothing is kept. Several processes may have the same folder or one each: the one that made a result keeps it.
  std::string resume_dir = "";
  /// Phases "calibrate" (samples), "codebooks", "awq", "layers" (GPTQ, kBest with data) and "compress" (weights).
  Progress progress = {};
  /// Compression across processes, which share the samples and the layers; null: this process alone. See distributed.h.
  std::shared_ptr<StatisticsExchange> exchange = nullptr;
};

/// What was taken from CompressPt2eOptions::resume_dir. It is no part of the report: that is the same with and without.
struct ReusedResults {
  int64_t layers = 0;                   ///< with a result from there
  std::vector<std::string> notes = {};  ///< damaged files, files of other runs, a folder that became full
};

/// A compressed model and what was done to it. Report::weights has a record for every weight.
struct CompressedModel {
  Model model;
  Report report;
  c10::optional<Sample> probe;  ///< the first calibration sample, for the check after saving
  ReusedResults reused = {};    ///< from `resume_dir`
  /// Writes the archive with the report; reloads it and, where there is a sample, compares its output bit for bit
  /// before the file takes its name. @throws Error kIo, kInternal
  void save(const std::string& path) const;
};

/// Weight compression (nncf.experimental.torch.fx.compress_pt2e): weights become codes of 8 and less bits, activations
/// stay as they are.
///
/// The quantizer decides which weights, precisions, groups and axes: OpenVINOQuantizer with `weights_only`, or any
/// other one whose points are all weights.
///
/// ```cpp
/// auto model = tsquant::Model::load("model.pt");
/// tsquant::OpenVINOQuantizerOptions what;
/// what.weights_only = tsquant::WeightsOnlyOptions{tsquant::CompressWeightsMode::kInt4Sym, /*group_size=*/64};
/// tsquant::OpenVINOQuantizer quantizer(what);
/// tsquant::compress_pt2e(model, quantizer).save("model_int4.pt");
/// ```
/// @throws Error kInvalidArgument: options that contradict each other (compress_weights.h lists them), a quantizer of
///         activations, group sizes that do not divide (GroupSizeFallbackMode::kError; the message lists all weights);
///         kUnsupportedModel: there is nothing to compress; kDataset, kCalibration: data that do not fit, weights or
///         activations with NaN or infinite values; kIo: resume_dir or dump_dir cannot be made; kCancelled
CompressedModel compress_pt2e(Model& model, Quantizer& quantizer, const CompressPt2eOptions& options = {});

/// A compressed model in its other form, without loss: codes, scales and zero points keep their values and their names,
/// and kReference to kLowered and back gives the same tensors bit for bit. Only a matrix that the model multiplies as
/// [in, out] comes back as [out, in], the layout of the lowered form. Plain operators compute with float activations:
/// kReference drops CompressPt2eOptions::dynamic_activations, and kLowered does not bring it back. `strip` (strip.h)
/// turns compressed weights into float ones.
/// @param form kReference or kLowered, see CompressPt2eOptions::form
/// @param do_copy false: the given model is edited, and returned
/// @throws Error kInvalidArgument for another form; kUnsupportedModel when the model has no compressed weights
Model convert_form(Model& model, OutputForm form, bool do_copy = true);

}  // namespace tsquant
