#include "quantizers/pt2e/config.h"

#include <fmt/format.h>

#include <algorithm>

#include "tsquant/error.h"

namespace tsquant::pt2e {

namespace {

c10::optional<Spec> as_spec(const c10::optional<QuantizationSpec>& spec) {
  return spec ? c10::optional<Spec>(Spec(*spec)) : c10::nullopt;
}

bool starts_with(const std::string& text, const std::string& prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

}  // namespace

c10::optional<Spec> input_spec(const QuantizationConfig& config) { return as_spec(config.input_activation); }
c10::optional<Spec> output_spec(const QuantizationConfig& config) { return as_spec(config.output_activation); }
c10::optional<Spec> weight_spec(const QuantizationConfig& config) { return as_spec(config.weight); }

void check_config(const QuantizationConfig& config, const std::string& option) {
  for (const auto* spec : {&config.input_activation, &config.output_activation}) {
    if (*spec && (*spec)->per_channel) {
      throw Error(ErrorCode::kInvalidArgument, "activations cannot be quantized per channel", option,
                  "set per_channel to false in input_activation and output_activation");
    }
  }
  if (config.weight && config.weight->mode != QuantizationScheme::kSymmetric) {
    throw Error(ErrorCode::kInvalidArgument, "weights must be quantized symmetrically", option,
                "set the mode of weight to kSymmetric");
  }
}

void set_observers(QuantizationConfig& config, bool is_qat, bool is_dynamic, ObserverKind calibrated) {
  auto& activation = *config.input_activation;
  activation.is_dynamic = is_dynamic;
  activation.observer = is_qat ? ObserverKind::kMovingAverageMinMax : calibrated;
  if (is_qat) {
    activation.fake_quantize = is_dynamic ? FakeQuantizeType::kFakeQuantize : FakeQuantizeType::kFusedMovingAvgObs;
    if (is_dynamic) activation.averaging_constant = 1;
  }
  config.output_activation = is_dynamic ? c10::nullopt : c10::make_optional(activation);
  auto& weight = *config.weight;
  if (is_qat) {
    weight.observer =
        weight.per_channel ? ObserverKind::kMovingAveragePerChannelMinMax : ObserverKind::kMovingAverageMinMax;
    weight.fake_quantize = FakeQuantizeType::kFusedMovingAvgObs;
  } else {
    weight.observer = weight.per_channel ? ObserverKind::kPerChannelMinMax : ObserverKind::kMinMax;
  }
}

bool is_dynamic(const OptionalQuantizationConfig& config) {
  return config && config->input_activation && config->input_activation->is_dynamic;
}

std::string bare_function(const std::string& name) {
  std::string rest = name;
  for (const char* prefix : {"aten::", "torch.ops.aten.", "aten.", "torch.nn.functional.", "torch.", "F."}) {
    if (starts_with(rest, prefix)) {
      rest = rest.substr(std::string(prefix).size());
      break;
    }
  }
  return rest.substr(0, rest.find('.'));
}

std::string checked_function(const std::string& name, const std::vector<std::string>& supported,
                             const std::string& option) {
  std::string bare = bare_function(name);
  if (std::find(supported.begin(), supported.end(), bare) != supported.end()) return bare;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("\"{}\" is no operator that can be configured", name), option,
              fmt::format("use one of {}", fmt::join(supported, ", ")));
}

}  // namespace tsquant::pt2e
