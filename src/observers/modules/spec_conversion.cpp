#include <fmt/format.h>

#include "numerics/formats.h"
#include "observers/modules/config_rules.h"
#include "observers/modules/type_names.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

[[noreturn]] void no_spec(const ObserverConfig& config, const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message, std::string("ObserverConfig of ") + class_name(config.type),
              "a quantization spec cannot say this");
}

[[noreturn]] void no_observer(const std::string& message, const std::string& advice) {
  throw Error(ErrorCode::kInvalidArgument, message, "QuantizationSpec", advice);
}

ObserverKind observer_kind(const ObserverConfig& config) {
  switch (config.type) {
    case ObserverType::kMinMax:
      return ObserverKind::kMinMax;
    case ObserverType::kPerChannelMinMax:
      return ObserverKind::kPerChannelMinMax;
    case ObserverType::kMovingAverageMinMax:
      return ObserverKind::kMovingAverageMinMax;
    case ObserverType::kMovingAveragePerChannelMinMax:
      return ObserverKind::kMovingAveragePerChannelMinMax;
    case ObserverType::kHistogram:
      return ObserverKind::kHistogram;
    case ObserverType::kFixedQParams:
    case ObserverType::kSampleExtrema:
      return ObserverKind::kDefault;
    case ObserverType::kPlaceholder:
      if (config.is_dynamic) return ObserverKind::kDefault;
      break;
    default:
      break;
  }
  no_spec(config, fmt::format("{} has no parameters", class_name(config.type)));
}

void set_codes(const ObserverConfig& config, QuantizationSpec& spec) {
  switch (config.dtype) {
    case c10::kQInt8:
      spec.dtype = c10::kChar;
      break;
    case c10::kQUInt8:
      spec.dtype = c10::kByte;
      break;
    case c10::kQUInt4x2:
      spec.format = Format::kInt4;
      spec.dtype = c10::kByte;
      break;
    default:
      no_spec(config, fmt::format("codes have the type {}", toString(config.dtype)));
  }
  if (!config.quant_min && !config.reduce_range) return;
  const CodeRange codes = code_range(config);
  spec.quant_min = codes.min;
  spec.quant_max = codes.max;
}

/// NNCF halves the codes of a weight where sums could overflow; its narrow ranges drop the lowest signed or the highest
/// unsigned code. The formula of torch.ao knows neither.
void set_code_limits(const QuantizationSpec& spec, bool is_signed, ObserverConfig& config) {
  if (spec.quant_min || spec.quant_max) {
    config.quant_min = spec.quant_min;
    config.quant_max = spec.quant_max;
    return;
  }
  const bool nncf = spec.formula == QParamsFormula::kNncf, narrow = nncf && spec.narrow_range;
  const int bits = format_info(spec.format).bits - (nncf && spec.half_range ? 1 : 0);
  if (bits == 8 && !narrow) return;
  const int64_t count = int64_t{1} << bits, low = is_signed ? -count / 2 : 0, high = low + count - 1;
  config.quant_min = low + (narrow && is_signed ? 1 : 0);
  config.quant_max = high - (narrow && !is_signed ? 1 : 0);
}

/// Where the spec does not say: the formula of torch.ao takes unsigned codes, that of NNCF takes them for asymmetric
/// ranges and lets data decide about symmetric ones, for which signed codes are safe.
bool has_signed_codes(const QuantizationSpec& spec) {
  if (spec.dtype) return *spec.dtype == c10::kChar || *spec.dtype == c10::kQInt8;
  if (spec.quant_min) return *spec.quant_min < 0;
  return spec.formula == QParamsFormula::kNncf && spec.mode == QuantizationScheme::kSymmetric &&
         spec.signedness_to_force.value_or(true);
}

ObserverType moving_average(bool per_channel) {
  return per_channel ? ObserverType::kMovingAveragePerChannelMinMax : ObserverType::kMovingAverageMinMax;
}

/// NNCF's rule for activations needs the extrema of each batch; training sees too many batches to keep them.
ObserverType default_type(const QuantizationSpec& spec, PointKind kind) {
  const bool trained = spec.fake_quantize != FakeQuantizeType::kNone, is_weight = kind == PointKind::kWeight;
  if (spec.fake_quantize == FakeQuantizeType::kFusedMovingAvgObs || (trained && !is_weight)) {
    return moving_average(spec.per_channel);
  }
  if (spec.per_channel) return ObserverType::kPerChannelMinMax;
  return is_weight ? ObserverType::kMinMax : ObserverType::kSampleExtrema;
}

/// make_observer decides between one range and a range per channel by `per_channel`, and so does this.
ObserverType observer_type(const QuantizationSpec& spec, PointKind kind) {
  // While training, what is computed from each tensor at run time is fake-quantized by the range of each batch.
  if (spec.is_dynamic) {
    return spec.fake_quantize == FakeQuantizeType::kNone ? ObserverType::kPlaceholder
                                                         : ObserverType::kMovingAverageMinMax;
  }
  if (spec.fixed_scale) return ObserverType::kFixedQParams;
  switch (spec.observer) {
    case ObserverKind::kDefault:
      return default_type(spec, kind);
    case ObserverKind::kMovingAverageMinMax:
    case ObserverKind::kMovingAveragePerChannelMinMax:
      return moving_average(spec.per_channel);
    case ObserverKind::kHistogram:
      if (!spec.per_channel) return ObserverType::kHistogram;
      break;
    default:
      break;
  }
  return spec.per_channel ? ObserverType::kPerChannelMinMax : ObserverType::kMinMax;
}

c10::QScheme scheme_of(const QuantizationSpec& spec, bool per_channel) {
  if (spec.float_zero_point) return c10::kPerChannelAffineFloatQParams;
  if (spec.mode == QuantizationScheme::kSymmetric) {
    return per_channel ? c10::kPerChannelSymmetric : c10::kPerTensorSymmetric;
  }
  return per_channel ? c10::kPerChannelAffine : c10::kPerTensorAffine;
}

}  // namespace

QuantizationSpec spec_of(const ObserverConfig& config) {
  check_observer_config(config);
  if (config.bins != ObserverConfig().bins) no_spec(config, fmt::format("a histogram has {} bins", config.bins));
  if (config.use_grad_scaling) no_spec(config, "gradients of scales are scaled (use_grad_scaling)");
  if (config.reduce_range && config.dtype == c10::kQUInt8 && is_symmetric(config.qscheme)) {
    no_spec(config, "the zero point 128 is outside of the reduced range");
  }
  QuantizationSpec spec;
  spec.formula = QParamsFormula::kTorchAo;
  if (config.type == ObserverType::kPlaceholder && config.dtype == c10::kHalf && !config.is_dynamic) {
    spec.dtype = c10::kHalf;  // a weight in float16
    return spec;
  }
  spec.observer = observer_kind(config);
  spec.mode = is_symmetric(config.qscheme) ? QuantizationScheme::kSymmetric : QuantizationScheme::kAsymmetric;
  spec.per_channel = is_per_channel(config.qscheme);
  spec.ch_axis = spec.per_channel ? config.ch_axis : 0;
  set_codes(config, spec);
  spec.eps = config.eps;
  spec.averaging_constant = config.averaging_constant;
  spec.histogram_rule = config.histogram_rule;
  spec.fake_quantize = config.fake_quantize;
  spec.is_dynamic = config.is_dynamic;
  spec.float_zero_point = config.qscheme == c10::kPerChannelAffineFloatQParams;
  if (config.type == ObserverType::kFixedQParams) {
    spec.fixed_scale = config.scale;
    spec.fixed_zero_point = config.zero_point;
  }
  return spec;
}

ObserverConfig observer_config_of(const QuantizationSpec& spec, PointKind kind) {
  check_spec(spec, kind, "QuantizationSpec");
  if (!format_info(spec.format).integer || spec.group_size > 0 || spec.formula == QParamsFormula::kNncfCompression) {
    no_observer("observers are for integers with a scale per tensor or channel",
                "use an integer format without groups, and the formula of torch.ao or NNCF");
  }
  ObserverConfig config;
  if (spec.dtype == c10::kHalf) {
    config.type = ObserverType::kPlaceholder;
    config.dtype = c10::kHalf;
    return config;
  }
  config.type = observer_type(spec, kind);
  config.fake_quantize = spec.fake_quantize;
  if (spec.fixed_scale && spec.fake_quantize != FakeQuantizeType::kNone) {
    config.fake_quantize = FakeQuantizeType::kFixedQParams;
  }
  const bool is_signed = has_signed_codes(spec);
  config.dtype = is_signed ? c10::kQInt8 : c10::kQUInt8;
  config.qscheme = scheme_of(spec, spec.per_channel && !spec.fixed_scale);
  set_code_limits(spec, is_signed, config);
  config.eps = spec.eps;
  const bool follows_batches = spec.is_dynamic && spec.fake_quantize != FakeQuantizeType::kNone;
  config.averaging_constant = follows_batches ? 1 : spec.averaging_constant;
  config.ch_axis = spec.ch_axis;
  config.histogram_rule = spec.histogram_rule;
  config.is_dynamic = spec.is_dynamic;
  config.scale = spec.fixed_scale.value_or(config.scale);
  config.zero_point = spec.fixed_zero_point.value_or(config.zero_point);
  check_observer_config(config);
  return config;
}

}  // namespace tsquant
