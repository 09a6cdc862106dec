#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <cmath>

#include "observers/modules/config_rules.h"
#include "observers/modules/module_class.h"
#include "observers/modules/sources.h"
#include "observers/modules/type_names.h"

namespace tsquant {

namespace {

constexpr int64_t kCellsPerBin2 = 16, kCellsPerBin1_13 = 128;

std::string observer_source(const ObserverConfig& config) {
  switch (config.type) {
    case ObserverType::kMinMax:
      return kMinMaxSource;
    case ObserverType::kPerChannelMinMax:
      return per_channel_min_max_source();
    case ObserverType::kMovingAverageMinMax:
      return kMovingAverageMinMaxSource;
    case ObserverType::kMovingAveragePerChannelMinMax:
      return moving_average_per_channel_min_max_source();
    case ObserverType::kHistogram:
      return config.histogram_rule == HistogramRule::kTorch2 ? kHistogramSource : kHistogram1_13Source;
    case ObserverType::kRecording:
      return kRecordingSource;
    case ObserverType::kSampleExtrema:
      return kSampleExtremaSource;
    default:
      return kIdentitySource;
  }
}

/// All fields of the config, so that it can be read back; names as in torch.ao where it has them.
void add_settings(Attributes& attributes, const ObserverConfig& config) {
  const CodeRange codes = code_range(config);
  attributes.add("training", true);
  attributes.add("dtype", static_cast<int64_t>(config.dtype));
  attributes.add("qscheme", static_cast<int64_t>(config.qscheme));
  attributes.add("reduce_range", config.reduce_range);
  attributes.add("quant_min", codes.min);
  attributes.add("quant_max", codes.max);
  attributes.add("has_customized_qrange", config.quant_min.has_value());
  attributes.add("given_quant_min", config.quant_min.value_or(0));
  attributes.add("given_quant_max", config.quant_max.value_or(0));
  attributes.add("given_eps", config.eps);
  attributes.add("averaging_constant", config.averaging_constant);
  attributes.add("ch_axis", config.ch_axis);
  attributes.add("bins", config.bins);
  attributes.add("histogram_rule", static_cast<int64_t>(config.histogram_rule));
  attributes.add("given_scale", config.scale);
  attributes.add("given_zero_point", config.zero_point);
  attributes.add("is_dynamic", config.is_dynamic);
  attributes.add("use_grad_scaling", config.use_grad_scaling);
  attributes.add_buffer("eps", at::full({1}, config.eps, at::kFloat));
}

void add_fixed_parameters(Attributes& attributes, const ObserverConfig& config) {
  attributes.add_buffer("scale", at::full({1}, config.scale, at::kFloat));
  attributes.add_buffer("zero_point", at::full({1}, config.zero_point, at::kInt));
}

void add_statistics(Attributes& attributes, const ObserverConfig& config) {
  switch (config.type) {
    case ObserverType::kHistogram: {
      const bool rule2 = config.histogram_rule == HistogramRule::kTorch2;
      attributes.add("upsample_rate", rule2 ? kCellsPerBin2 : kCellsPerBin1_13);
      attributes.add_buffer("histogram", at::zeros({config.bins}, rule2 ? at::kDouble : at::kFloat));
    }
      [[fallthrough]];
    case ObserverType::kMinMax:
    case ObserverType::kMovingAverageMinMax:
      attributes.add_buffer("min_val", at::full({}, INFINITY, at::kFloat));
      attributes.add_buffer("max_val", at::full({}, -INFINITY, at::kFloat));
      return;
    case ObserverType::kPerChannelMinMax:
    case ObserverType::kMovingAveragePerChannelMinMax:
      attributes.add_buffer("min_val", at::empty({0}, at::kFloat));
      attributes.add_buffer("max_val", at::empty({0}, at::kFloat));
      return;
    case ObserverType::kSampleExtrema:
      attributes.add_buffer("sample_min", at::empty({0}, at::kFloat));
      attributes.add_buffer("sample_max", at::empty({0}, at::kFloat));
      attributes.add_buffer("unusable", at::zeros({2}, at::kLong));
      return;
    case ObserverType::kFixedQParams:
      return add_fixed_parameters(attributes, config);
    case ObserverType::kRecording:
      return attributes.add_tensor_list("tensor_val");
    default:
      return;
  }
}

std::string fake_quantize_source(FakeQuantizeType type) {
  switch (type) {
    case FakeQuantizeType::kFusedMovingAvgObs:
      return kFusedMovingAvgObsSource;
    case FakeQuantizeType::kFixedQParams:
      return std::string(kFixedQParamsSource) + kFakeQuantizeStepSource;
    case FakeQuantizeType::kLearnable:
      return std::string(kLearnableSource) + kQParamsSource;
    default:
      return std::string(kFakeQuantizeSource) + kFakeQuantizeStepSource + kQParamsSource;
  }
}

/// scale 1 and zero_point 0 until something was observed; per channel they take their size from the first batch.
void add_parameters(Attributes& attributes, const ObserverConfig& config) {
  if (config.fake_quantize == FakeQuantizeType::kFixedQParams) return add_fixed_parameters(attributes, config);
  if (config.fake_quantize == FakeQuantizeType::kLearnable) {
    attributes.add_parameter("scale", at::ones({1}).requires_grad_());
    attributes.add_parameter("zero_point", at::zeros({1}).requires_grad_());
    attributes.add_buffer("eps", at::full({1}, config.eps, at::kFloat));
    attributes.add_buffer("static_enabled", at::ones({1}, at::kByte));
    attributes.add_buffer("learning_enabled", at::zeros({1}, at::kByte));
    attributes.add("use_grad_scaling", config.use_grad_scaling);
    return;
  }
  const bool float_zero = config.qscheme == c10::kPerChannelAffineFloatQParams;
  attributes.add_buffer("scale", at::ones({1}, at::kFloat));
  attributes.add_buffer("zero_point", at::zeros({1}, float_zero ? at::kFloat : at::kInt));
}

torch::jit::Module around(const torch::jit::Module& observer, const ObserverConfig& config,
                          const std::shared_ptr<torch::jit::CompilationUnit>& unit) {
  const CodeRange codes = code_range(config);
  const auto flag = config.fake_quantize == FakeQuantizeType::kFusedMovingAvgObs ? at::kLong : at::kByte;
  Attributes attributes;
  attributes.add("training", true);
  attributes.add("dtype", static_cast<int64_t>(config.dtype));
  attributes.add("qscheme", static_cast<int64_t>(config.qscheme));
  attributes.add("quant_min", codes.min);
  attributes.add("quant_max", codes.max);
  attributes.add("ch_axis", is_per_channel(config.qscheme) ? config.ch_axis : -1);
  attributes.add("is_per_channel", is_per_channel(config.qscheme));
  attributes.add("is_symmetric_quant", is_symmetric(config.qscheme));
  attributes.add("symmetric_zero", symmetric_zero(config));
  attributes.add_buffer("fake_quant_enabled", at::ones({1}, flag));
  attributes.add_buffer("observer_enabled", at::ones({1}, flag));
  add_parameters(attributes, config);
  attributes.add("activation_post_process", observer);
  // The class of the inner module is part of the outer class, hence one outer class for each.
  const auto name = std::string("__torch__.tsquant.fake_quantize.") + class_name(config.type) + "." +
                    class_name(config.fake_quantize);
  return attributes.instance(name, fake_quantize_source(config.fake_quantize), unit);
}

}  // namespace

torch::jit::Module make_observer_module(const ObserverConfig& config,
                                        const std::shared_ptr<torch::jit::CompilationUnit>& unit) {
  check_observer_config(config);
  const c10::InferenceMode tensors_can_be_written_later(false);
  const auto owner = unit ? unit : std::make_shared<torch::jit::CompilationUnit>();
  Attributes attributes;
  add_settings(attributes, config);
  add_statistics(attributes, config);
  const bool old_rule = config.type == ObserverType::kHistogram && config.histogram_rule == HistogramRule::kTorch1_13;
  const auto name =
      std::string("__torch__.tsquant.observers.") + (old_rule ? "torch1_13." : "") + class_name(config.type);
  const auto observer = attributes.instance(name, observer_source(config), owner);
  return config.fake_quantize == FakeQuantizeType::kNone ? observer : around(observer, config, owner);
}

}  // namespace tsquant
