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

/// The spec that asks for such an observer, and back. Statistics of kPlaceholder, kRecording, kNoop and kReuseInput
/// have no spec. @throws Error kInvalidArgument for what the other side cannot say
QuantizationSpec spec_of(const ObserverConfig& config);
ObserverConfig observer_config_of(const QuantizationSpec& spec, PointKind kind);

/// A TorchScript module that observes, or observes and fake-quantizes, what passes through it: `forward(x)` returns x,
/// or its fake-quantized value, in the shape of x. It runs, saves, loads and prints wherever LibTorch does, without a
/// library of ours. Its buffers have the names and shapes of torch.ao's, so that a state dict moves between both:
/// `min_val`, `max_val`, `eps`, `histogram`, `scale`, `zero_point`, `fake_quant_enabled`, `observer_enabled`; the
/// observer of a fake quantize is its submodule `activation_post_process`.
/// @param unit where its class is defined, once per kind of module; none: a unit of its own
/// @throws Error kInvalidArgument for a config that torch.ao refuses too (scheme and type of observer, quant_min and
///         quant_max outside of dtype or without zero, symmetric quint8 with reduce_range)
torch::jit::Module make_observer_module(const ObserverConfig& config,
                                        const std::shared_ptr<torch::jit::CompilationUnit>& unit = nullptr);

/// Whether a module is one of these, by what it holds, whoever wrote it.
bool is_observer_module(const torch::jit::Module& module);
/// What such a module was made from. @throws Error kInvalidArgument when it is none
ObserverConfig observer_config_of(const torch::jit::Module& module);

/// scale (float32), zero_point (int64), both [1] or [channels].
struct ObservedQParams {
  at::Tensor scale, zero_point;
  bool observed = true;  ///< false: no data were seen, scale is 1 and zero_point 0
};
/// What torch.ao's calculate_qparams gives for the statistics that the module holds now.
/// @throws Error kInvalidArgument for observers without parameters (kPlaceholder, kRecording, kNoop, kReuseInput);
///         kCalibration for a minimum above the maximum or NaN
ObservedQParams calculate_qparams(const torch::jit::Module& module);

/// The statistics that a module holds now, as an observer of the kind that `spec` asks for: what the stages after
/// calibration work on. Null when no data were seen. @throws Error kInvalidArgument when module and spec do not belong
/// together
std::unique_ptr<Observer> observer_of(const torch::jit::Module& module, const QuantizationSpec& spec, PointKind kind);

/// Switch observing and fake quantizing of this module and all modules below it on and off, by their buffers
/// `observer_enabled` and `fake_quant_enabled`, as torch.ao's functions of these names do with `Module::apply`.
void enable_observer(torch::jit::Module& module);
void disable_observer(torch::jit::Module& module);
void enable_fake_quant(torch::jit::Module& module);
void disable_fake_quant(torch::jit::Module& module);

}  // namespace tsquant
