#pragma once

#include <c10/core/QScheme.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Optional.h>
#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <memory>
#include <string>

#include "tsquant/observer.h"
#include "tsquant/quantization_spec.h"

/// The observers and fake quantizes of torch.ao as TorchScript modules. In a model that prepare_* made they are its
/// submodules; they serve alone as well:
///
///   tsquant::ObserverConfig config;
///   config.type = tsquant::ObserverType::kHistogram;
///   auto observer = tsquant::make_observer_module(config);
///   for (const at::Tensor& batch : batches) observer.forward({batch});
///   const auto q = tsquant::calculate_qparams(observer);
///   const auto codes = at::quantize_per_tensor(batches[0], q.scale.item<double>(), q.zero_point.item<int64_t>(),
///                                              config.dtype);

namespace tsquant {

/// The observers of torch.ao, by its names without "Observer", and one of ours.
enum class ObserverType {
  kMinMax,
  kPerChannelMinMax,
  kMovingAverageMinMax,
  kMovingAveragePerChannelMinMax,
  kHistogram,
  kPlaceholder,   ///< no statistics: float tensors, and dynamic quantization
  kFixedQParams,  ///< constant scale and zero_point
  kRecording,     ///< keeps every tensor
  kNoop,          ///< no statistics; a mark for float16
  kReuseInput,    ///< no statistics; a mark: the parameters of the operator's input
  /// Keeps the extrema of every batch: what quantize_pt2e's ObserverKind::kDefault decides by.
  kSampleExtrema,
};

/// What torch.ao's `Observer.with_args(...)` and `FakeQuantize.with_args(observer=...)` say, as a value.
struct ObserverConfig {
  ObserverType type = ObserverType::kMinMax;
  FakeQuantizeType fake_quantize = FakeQuantizeType::kNone;
  c10::ScalarType dtype = c10::kQUInt8;  ///< kQInt8, kQUInt8, kQInt32, kQUInt4x2; placeholders also kFloat, kHalf
  c10::QScheme qscheme = c10::kPerTensorAffine;
  bool reduce_range = false;  ///< half of the codes, for engines whose sums overflow
  c10::optional<int64_t> quant_min = c10::nullopt, quant_max = c10::nullopt;  ///< in place of the range of dtype
  double eps = 1.1920928955078125e-07;                                        ///< the smallest scale
  double averaging_constant = 0.01;                                           ///< of moving averages
  int64_t ch_axis = 0;                                                        ///< per channel
  int64_t bins = 2048;                                                        ///< of histograms
  HistogramRule histogram_rule = HistogramRule::kTorch2;
  double scale = 1;               ///< kFixedQParams
  int64_t zero_point = 0;         ///< kFixedQParams
  bool is_dynamic = false;        ///< kPlaceholder: parameters are computed from each tensor at run time
  bool use_grad_scaling = false;  ///< kLearnable
};

bool operator==(const ObserverConfig& a, const ObserverConfig& b);
inline bool operator!=(const ObserverConfig& a, const ObserverConfig& b) { return !(a == b); }

/// The spec that asks for such an observer, with the formula of torch.ao.
/// @throws Error kInvalidArgument for a config that make_observer_module refuses, and for what a spec cannot say:
///         kRecording, kNoop, kReuseInput and kPlaceholder (unless is_dynamic); kQInt32, kQUInt8 symmetric with
///         reduce_range, floating-point zero points, another number of bins than 2048, use_grad_scaling
QuantizationSpec spec_of(const ObserverConfig& config);
/// The observer that a spec asks for: `observer_config_of(spec_of(config), kind)` is `config` again, with the limits of
/// its codes written out where reduce_range or kQUInt4x2 gave them. By the kind of observer and per_channel; is_dynamic
/// is kPlaceholder, fixed_scale kFixedQParams. ObserverKind::kDefault is
/// - kMinMax or kPerChannelMinMax for weights, and for activations per channel,
/// - kSampleExtrema for activations per tensor,
/// - a moving average for activations with a fake quantize, and with kFusedMovingAvgObs for weights as well.
/// A fake quantize in training uses the formula of torch.ao; NNCF's is used when the model is converted.
/// @throws Error kInvalidArgument for what check_spec refuses, formats that are not integers, groups, the formula
///         kNncfCompression, and a fake quantize that does not fit the kind of observer
ObserverConfig observer_config_of(const QuantizationSpec& spec, PointKind kind);

/// A TorchScript module that observes, or observes and fake-quantizes, what passes through it: `forward(x)` returns x,
/// or its fake-quantized value, in the shape and type of x. It runs, saves, loads and prints wherever LibTorch does,
/// without a library of ours. Statistics are taken in float32, empty tensors are ignored, gradients pass an observer
/// unchanged and a fake quantize within its range. Histograms and kSampleExtrema leave out NaN and infinite values; the
/// other observers keep them, as torch.ao does, which calculate_qparams then reports.
///
/// Its buffers have the names and shapes of torch.ao's, so that a state dict moves between both: `min_val`, `max_val`,
/// `eps`, `histogram` (in float64 with HistogramRule::kTorch2), `scale`, `zero_point`, `fake_quant_enabled`,
/// `observer_enabled`; the observer of a fake quantize is its submodule `activation_post_process`. The parameters of
/// kLearnable are `scale` and `zero_point`; per channel they take their size from the first batch. All other settings
/// are attributes, so that modules of one kind share one class.
///
/// kFusedMovingAvgObs trains with the scales of LibTorch's operator, which differ from calculate_qparams a little for
/// symmetric schemes, and much for symmetric data on one side of zero.
/// HistogramRule::kTorch1_13 needs 1.5 kB per bin times the growth of the range, for the batch in which it grows.
///
/// @param unit where its class is defined, once per kind of module; none: a unit of its own
/// @throws Error kInvalidArgument for a config that torch.ao refuses too (scheme and type of observer, quant_min and
///         quant_max outside of dtype or without zero, symmetric quint8 with reduce_range), numbers that make no sense,
///         and a fake quantize around an observer without minimum and maximum or around a histogram, whose range would
///         be searched at every step
torch::jit::Module make_observer_module(const ObserverConfig& config,
                                        const std::shared_ptr<torch::jit::CompilationUnit>& unit = nullptr);

/// Whether a module is one of these, by the last part of the name of its class (torch.ao's names) and the statistics
/// that it holds, whoever wrote it.
bool is_observer_module(const torch::jit::Module& module);
/// What such a module was made from; for one that torch.ao's Python made, what it keeps of that.
/// @throws Error kInvalidArgument when it is none
ObserverConfig observer_config_of(const torch::jit::Module& module);

/// scale (float32), zero_point (int64; float32 with kPerChannelAffineFloatQParams), both [1] or [channels].
struct ObservedQParams {
  at::Tensor scale, zero_point;
  bool observed = true;  ///< false: no data were seen, scale is 1 and zero_point 0, both [1]
};
/// What torch.ao's calculate_qparams gives for the statistics that the module holds now. Fake quantizes answer by their
/// observer, those of kFixedQParams and kLearnable by their own scale and zero_point. Source:
/// UniformQuantizationObserverBase._calculate_qparams and HistogramObserver._non_linear_param_search, torch 1.13.
/// @throws Error kInvalidArgument for observers without parameters (kPlaceholder, kRecording, kNoop, kReuseInput,
///         kSampleExtrema); kCalibration for a minimum above the maximum or NaN
ObservedQParams calculate_qparams(const torch::jit::Module& module);

/// The statistics that a module holds now, as an observer of the kind that `spec` asks for (make_observer): what the
/// stages after calibration work on. Scales computed from it with the formula of torch.ao are those of
/// calculate_qparams; with kSampleExtrema its range is that of an observer that saw the same batches. A histogram of
/// another rule or size than HistogramObserver's, and learned scales, become the range that they stand for.
/// Null when no data were seen, and for kFixedQParams.
/// @throws Error kInvalidArgument when module and spec do not belong together; kCalibration for infinite statistics, a
///         minimum above the maximum, or NaN
std::unique_ptr<Observer> observer_of(const torch::jit::Module& module, const QuantizationSpec& spec, PointKind kind);

/// Switch observing and fake quantizing of this module and all modules below it on and off, by their buffers
/// `observer_enabled` and `fake_quant_enabled`, as torch.ao's functions of these names do with `Module::apply`. A
/// learnable fake quantize follows its observer, without gradients for scale and zero_point, until disable_observer:
/// from then on they are learned (torch.ao's enable_static_estimate and enable_param_learning).
void enable_observer(torch::jit::Module& module);
void disable_observer(torch::jit::Module& module);
void enable_fake_quant(torch::jit::Module& module);
void disable_fake_quant(torch::jit::Module& module);

}  // namespace tsquant
