#include <fmt/format.h>

#include "quantizers/openvino/propagation_solver.h"
#include "tsquant/error.h"

namespace tsquant::openvino {

namespace {

const char* name_of(QuantizationScheme mode) {
  return mode == QuantizationScheme::kSymmetric ? "symmetric" : "asymmetric";
}

}  // namespace

bool Constraints::allows(const QConfig& config) const {
  if (mode && config.mode != *mode) return false;
  if (num_bits && config.num_bits != *num_bits) return false;
  if (signedness_to_force && config.signedness_to_force != signedness_to_force) return false;
  if (per_channel && config.per_channel != *per_channel) return false;
  return !narrow_range || config.narrow_range == *narrow_range;
}

QConfig Constraints::apply_to(QConfig config) const {
  if (mode) config.mode = *mode;
  if (num_bits) config.num_bits = static_cast<int>(*num_bits);
  if (signedness_to_force) config.signedness_to_force = signedness_to_force;
  if (per_channel) config.per_channel = *per_channel;
  if (narrow_range) config.narrow_range = *narrow_range;
  return config;
}

QConfigList Constraints::matching(const QConfigList& list) const {
  QConfigList allowed;
  for (const auto& config : list) {
    if (allows(config)) allowed.push_back(config);
  }
  return allowed;
}

QConfigList Constraints::overriding(const QConfigList& list, bool weight) const {
  Constraints others = *this;
  others.num_bits = c10::nullopt;
  // Without zero in the middle of the levels there is no lowest level to drop.
  const bool any_range = weight && mode.value_or(QuantizationScheme::kSymmetric) == QuantizationScheme::kSymmetric;
  if (any_range) others.narrow_range = c10::nullopt;
  QConfigList replaced;
  for (QConfig config : others.matching(list)) {
    config.num_bits = static_cast<int>(num_bits.value_or(8));
    if (any_range && narrow_range) config.narrow_range = *narrow_range;
    if (!contains(replaced, config)) replaced.push_back(config);
  }
  return replaced;
}

QConfigList Constraints::filter(const QConfigList& list, const std::string& node, const char* what) const {
  QConfigList allowed = matching(list);
  if (allowed.empty()) allowed = overriding(list, std::string(what) == "weight");
  if (allowed.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the target device has no {} quantizer with {}", what, describe()), node,
                fmt::format("change or unset the fields of {}s_quantization_params", what));
  }
  return allowed;
}

std::string Constraints::describe() const {
  std::string text;
  const auto add = [&text](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (num_bits) add(fmt::format("num_bits={}", *num_bits));
  if (mode) add(fmt::format("mode={}", name_of(*mode)));
  if (signedness_to_force) add(fmt::format("signedness_to_force={}", *signedness_to_force));
  if (per_channel) add(fmt::format("per_channel={}", *per_channel));
  if (narrow_range) add(fmt::format("narrow_range={}", *narrow_range));
  return text;
}

}  // namespace tsquant::openvino
