#include "observers/modules/config_rules.h"

#include <fmt/format.h>

#include <cmath>

#include "observers/modules/type_names.h"
#include "tsquant/error.h"

namespace tsquant {

bool operator==(const ObserverConfig& a, const ObserverConfig& b) {
  return a.type == b.type && a.fake_quantize == b.fake_quantize && a.dtype == b.dtype && a.qscheme == b.qscheme &&
         a.reduce_range == b.reduce_range && a.quant_min == b.quant_min && a.quant_max == b.quant_max &&
         a.eps == b.eps && a.averaging_constant == b.averaging_constant && a.ch_axis == b.ch_axis && a.bins == b.bins &&
         a.histogram_rule == b.histogram_rule && a.scale == b.scale && a.zero_point == b.zero_point &&
         a.is_dynamic == b.is_dynamic && a.use_grad_scaling == b.use_grad_scaling;
}

bool is_symmetric(c10::QScheme scheme) {
  return scheme == c10::kPerTensorSymmetric || scheme == c10::kPerChannelSymmetric;
}

bool is_per_channel(c10::QScheme scheme) {
  return scheme == c10::kPerChannelAffine || scheme == c10::kPerChannelSymmetric ||
         scheme == c10::kPerChannelAffineFloatQParams;
}

bool has_min_max(ObserverType type) {
  return type == ObserverType::kMinMax || type == ObserverType::kPerChannelMinMax ||
         type == ObserverType::kMovingAverageMinMax || type == ObserverType::kMovingAveragePerChannelMinMax ||
         type == ObserverType::kHistogram;
}

namespace {

[[noreturn]] void refuse_config(const ObserverConfig& config, const std::string& message, const std::string& advice) {
  throw Error(ErrorCode::kInvalidArgument, message, std::string("ObserverConfig of ") + class_name(config.type),
              advice);
}

CodeRange codes_of(c10::ScalarType dtype) {
  switch (dtype) {
    case c10::kQInt8:
      return {-128, 127};
    case c10::kQUInt8:
      return {0, 255};
    case c10::kQInt32:
      return {-2147483648LL, 2147483647};
    default:
      return {0, 15};
  }
}

bool is_quantized_type(c10::ScalarType dtype) {
  return dtype == c10::kQInt8 || dtype == c10::kQUInt8 || dtype == c10::kQInt32 || dtype == c10::kQUInt4x2;
}

int64_t halved(int64_t code) { return static_cast<int64_t>(std::floor(static_cast<double>(code) / 2)); }

void check_types(const ObserverConfig& config) {
  if (has_min_max(config.type) || config.type == ObserverType::kFixedQParams) {
    if (!is_quantized_type(config.dtype)) {
      refuse_config(config, fmt::format("codes of type {} are not supported", toString(config.dtype)),
                    "use qint8, quint8, qint32 or quint4x2");
    }
  }
  if (config.type == ObserverType::kFixedQParams && is_per_channel(config.qscheme)) {
    refuse_config(config, "fixed parameters are for a whole tensor", "use a per-tensor scheme");
  }
  if (!has_min_max(config.type)) return;
  const bool per_channel =
      config.type == ObserverType::kPerChannelMinMax || config.type == ObserverType::kMovingAveragePerChannelMinMax;
  if (per_channel != is_per_channel(config.qscheme)) {
    refuse_config(config, fmt::format("the scheme {} does not fit the observer", c10::toString(config.qscheme)),
                  per_channel ? "use a per-channel scheme, or an observer per tensor"
                              : "use a per-tensor scheme, or an observer per channel");
  }
  if (config.reduce_range && config.dtype == c10::kQUInt8 && is_symmetric(config.qscheme) &&
      config.type != ObserverType::kHistogram) {
    refuse_config(config, "the range of symmetric quint8 cannot be reduced",
                  "use qint8, an affine scheme, or reduce_range = false");
  }
}

void check_code_limits(const ObserverConfig& config) {
  if (config.quant_min.has_value() != config.quant_max.has_value()) {
    refuse_config(config, "only one of quant_min and quant_max is set", "set both or none");
  }
  if (!config.quant_min) return;
  const int64_t low = *config.quant_min, high = *config.quant_max;
  if (low > 0 || high < 0 || low >= high) {
    refuse_config(config, fmt::format("quant_min {} and quant_max {} do not enclose zero", low, high),
                  "give quant_min <= 0 <= quant_max, and quant_min < quant_max");
  }
  const CodeRange all = codes_of(config.dtype);
  if (is_quantized_type(config.dtype) && (low < all.min || high > all.max)) {
    refuse_config(config,
                  fmt::format("quant_min {} and quant_max {} are outside of {}", low, high, toString(config.dtype)),
                  fmt::format("stay within [{}, {}]", all.min, all.max));
  }
}

void check_numbers(const ObserverConfig& config) {
  if (!(config.eps >= 0) || std::isinf(config.eps)) {
    refuse_config(config, fmt::format("eps is {}", config.eps), "give the smallest scale, such as 1.1920929e-07");
  }
  if (!(config.averaging_constant > 0 && config.averaging_constant <= 1)) {
    refuse_config(config, fmt::format("averaging_constant is {}", config.averaging_constant),
                  "use more than 0, up to 1");
  }
  if (config.bins < 2) refuse_config(config, fmt::format("bins is {}", config.bins), "use 2 or more, such as 2048");
  if (config.type != ObserverType::kFixedQParams) return;
  if (!(config.scale > 0) || std::isinf(config.scale)) {
    refuse_config(config, fmt::format("scale is {}", config.scale), "give a positive number");
  }
  const CodeRange codes = code_range(config);
  if (config.zero_point < codes.min || config.zero_point > codes.max) {
    refuse_config(config, fmt::format("zero_point {} is no code", config.zero_point),
                  fmt::format("stay within [{}, {}]", codes.min, codes.max));
  }
}

void check_fake_quantize(const ObserverConfig& config) {
  switch (config.fake_quantize) {
    case FakeQuantizeType::kNone:
      return;
    case FakeQuantizeType::kFusedMovingAvgObs:
      if (config.type == ObserverType::kMovingAverageMinMax ||
          config.type == ObserverType::kMovingAveragePerChannelMinMax) {
        return;
      }
      refuse_config(config, "the fused fake quantize works with a moving average",
                    "use MovingAverageMinMax or MovingAveragePerChannelMinMax");
    case FakeQuantizeType::kFixedQParams:
      if (config.type == ObserverType::kFixedQParams) return;
      refuse_config(config, "a fake quantize with fixed parameters needs them", "use kFixedQParams");
    default:
      break;
  }
  if (config.type == ObserverType::kHistogram) {
    refuse_config(config, "a fake quantize would search the range of a histogram at every step of training",
                  "use a moving average");
  }
  if (!has_min_max(config.type)) {
    refuse_config(config, "this observer gives no scale to quantize by", "use a moving average");
  }
  if (config.fake_quantize == FakeQuantizeType::kLearnable && config.qscheme == c10::kPerChannelAffineFloatQParams) {
    refuse_config(config, "a learnable fake quantize has integer zero points", "use per_channel_affine");
  }
}

}  // namespace

CodeRange code_range(const ObserverConfig& config) {
  CodeRange codes = codes_of(config.dtype);
  if (config.quant_min && config.quant_max) {
    codes = {*config.quant_min, *config.quant_max};
  } else if (config.dtype != c10::kQInt8 && config.dtype != c10::kQUInt8) {
    return codes;
  }
  return config.reduce_range ? CodeRange{halved(codes.min), halved(codes.max)} : codes;
}

int64_t symmetric_zero(const ObserverConfig& config) {
  if (config.dtype != c10::kQUInt8) return 0;
  const CodeRange codes = code_range(config);
  return config.quant_min ? halved(codes.min + codes.max) : 128;
}

void check_observer_config(const ObserverConfig& config) {
  check_types(config);
  check_code_limits(config);
  check_numbers(config);
  check_fake_quantize(config);
}

}  // namespace tsquant
