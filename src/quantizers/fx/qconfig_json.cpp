#include "quantizers/fx/qconfig_json.h"

namespace tsquant::fx {

namespace {

const Words<ObserverType>& observer_words() {
  static const Words<ObserverType> words{
      {"MinMaxObserver", ObserverType::kMinMax},
      {"PerChannelMinMaxObserver", ObserverType::kPerChannelMinMax},
      {"MovingAverageMinMaxObserver", ObserverType::kMovingAverageMinMax},
      {"MovingAveragePerChannelMinMaxObserver", ObserverType::kMovingAveragePerChannelMinMax},
      {"HistogramObserver", ObserverType::kHistogram},
      {"PlaceholderObserver", ObserverType::kPlaceholder},
      {"FixedQParamsObserver", ObserverType::kFixedQParams},
      {"RecordingObserver", ObserverType::kRecording},
      {"NoopObserver", ObserverType::kNoop},
      {"ReuseInputObserver", ObserverType::kReuseInput},
      {"SampleExtremaObserver", ObserverType::kSampleExtrema},
  };
  return words;
}

const Words<FakeQuantizeType>& fake_quantize_words() {
  static const Words<FakeQuantizeType> words{
      {"", FakeQuantizeType::kNone},
      {"FakeQuantize", FakeQuantizeType::kFakeQuantize},
      {"FusedMovingAvgObsFakeQuantize", FakeQuantizeType::kFusedMovingAvgObs},
      {"FixedQParamsFakeQuantize", FakeQuantizeType::kFixedQParams},
      {"_LearnableFakeQuantize", FakeQuantizeType::kLearnable},
  };
  return words;
}

const Words<c10::QScheme>& qscheme_words() {
  static const Words<c10::QScheme> words{
      {"per_tensor_affine", c10::kPerTensorAffine},
      {"per_tensor_symmetric", c10::kPerTensorSymmetric},
      {"per_channel_affine", c10::kPerChannelAffine},
      {"per_channel_symmetric", c10::kPerChannelSymmetric},
      {"per_channel_affine_float_qparams", c10::kPerChannelAffineFloatQParams},
  };
  return words;
}

const Words<HistogramRule>& rule_words() {
  static const Words<HistogramRule> words{{"torch2", HistogramRule::kTorch2}, {"torch1.13", HistogramRule::kTorch1_13}};
  return words;
}

/// The observer, its type and scheme, and what differs from the defaults.
Json observer_json(const ObserverConfig& config) {
  const ObserverConfig plain;
  Json json{{"observer", word_of(observer_words(), config.type)}};
  const auto add = [&](const char* key, bool differs, const Json& value) {
    if (differs) json[key] = value;
  };
  add("fake_quantize", config.fake_quantize != plain.fake_quantize,
      word_of(fake_quantize_words(), config.fake_quantize));
  json["dtype"] = word_of(dtype_words(), config.dtype);
  json["qscheme"] = word_of(qscheme_words(), config.qscheme);
  add("reduce_range", config.reduce_range, true);
  add("quant_min", config.quant_min.has_value(), json_or_null(config.quant_min));
  add("quant_max", config.quant_max.has_value(), json_or_null(config.quant_max));
  add("eps", config.eps != plain.eps, config.eps);
  add("averaging_constant", config.averaging_constant != plain.averaging_constant, config.averaging_constant);
  add("ch_axis", config.ch_axis != plain.ch_axis, config.ch_axis);
  add("bins", config.bins != plain.bins, config.bins);
  add("histogram_rule", config.histogram_rule != plain.histogram_rule, word_of(rule_words(), config.histogram_rule));
  add("scale", config.scale != plain.scale, config.scale);
  add("zero_point", config.zero_point != plain.zero_point, config.zero_point);
  add("is_dynamic", config.is_dynamic, true);
  add("use_grad_scaling", config.use_grad_scaling, true);
  return json;
}

ObserverConfig read_observer(const Json& json, const std::string& place) {
  const JsonObject object(json, place,
                          {"observer", "fake_quantize", "dtype", "qscheme", "reduce_range", "quant_min", "quant_max",
                           "eps", "averaging_constant", "ch_axis", "bins", "histogram_rule", "scale", "zero_point",
                           "is_dynamic", "use_grad_scaling"});
  ObserverConfig config;
  object.require("observer");
  object.read("observer", config.type, observer_words());
  object.read("fake_quantize", config.fake_quantize, fake_quantize_words());
  object.read("dtype", config.dtype, dtype_words());
  object.read("qscheme", config.qscheme, qscheme_words());
  object.read("reduce_range", config.reduce_range);
  object.read("quant_min", config.quant_min);
  object.read("quant_max", config.quant_max);
  object.read("eps", config.eps);
  object.read("averaging_constant", config.averaging_constant);
  object.read("ch_axis", config.ch_axis);
  object.read("bins", config.bins);
  object.read("histogram_rule", config.histogram_rule, rule_words());
  object.read("scale", config.scale);
  object.read("zero_point", config.zero_point);
  object.read("is_dynamic", config.is_dynamic);
  object.read("use_grad_scaling", config.use_grad_scaling);
  return config;
}

}  // namespace

Json qconfig_json(const QConfig& qconfig) {
  return {{"activation", observer_json(qconfig.activation)}, {"weight", observer_json(qconfig.weight)}};
}

QConfig read_qconfig(const Json& json, const std::string& place) {
  const JsonObject object(json, place, {"activation", "weight"});
  return {read_observer(object.require("activation"), object.place_of("activation")),
          read_observer(object.require("weight"), object.place_of("weight"))};
}

std::string to_json(const QConfig& qconfig) { return qconfig_json(qconfig).dump(2); }

QConfig qconfig_from_json(const std::string& text) { return read_qconfig(parse_json(text, "qconfig"), "qconfig"); }

}  // namespace tsquant::fx
