#include "flows/nncf_config/config_warnings.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/nearest.h"
#include "flows/nncf_config/config_schema.h"
#include "flows/nncf_config/quantization_section.h"
#include "flows/nncf_config/sections.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using nlohmann::json;

/// Keys at the top that have an effect, or a warning of their own.
constexpr const char* kReadAtTop[] = {"compression",    "target_device", "accuracy_control",  "accuracy_aware_training",
                                      "ignored_scopes", "target_scopes", "weight_compression"};

/// Keys of the section that are about training.
constexpr const char* kTraining[] = {"/params", "/compression_lr_multiplier", "/weights/logarithm_scale",
                                     "/activations/logarithm_scale", "/initializer/batchnorm_adaptation"};

constexpr const char* kAllQuantized = "all operators are quantized that ignored_scopes leaves";

/// A value of the section that would change quantization.
struct MissingOption {
  const char* pointer;
  const char* consequence;
};
constexpr MissingOption kMissing[] = {
    {"/quantize_inputs", "a model input is quantized wherever an operator needs its codes"},
    {"/scope_overrides", "single quantizers have no options of their own: those of weights and activations hold"},
    {"/initializer/precision", "bits are not chosen for single quantizers: those of weights and activations hold"},
    {"/target_scopes", kAllQuantized},
    {"/weights/ignored_scopes", "operators are left in float as a whole: ignored_scopes of the section"},
    {"/weights/target_scopes", "all weights are quantized"},
    {"/activations/ignored_scopes", "operators are left in float as a whole: ignored_scopes of the section"},
    {"/activations/target_scopes", "all activations are quantized"},
    {"/activations/unified_scale_ops", "scales are shared where the graph needs it"},
    {"/export_to_onnx_standard_ops", "the option \"form\" chooses the operators of the result"},
};

/// "compression.weights.bits" of "compression" and "/weights/bits".
std::string path_to(const std::string& section, std::string pointer) {
  std::replace(pointer.begin(), pointer.end(), '/', '.');
  return section + pointer;
}

/// The value with a pointer; null when there is none.
const json* find_value(const json& object, const char* pointer) {
  const json::json_pointer place(pointer);
  return object.contains(place) ? &object.at(place) : nullptr;
}

/// What asks for nothing else than what happens anyway.
bool asks_for_nothing(const std::string& pointer, const json& value) {
  if (value.is_structured() && value.empty()) return true;
  if (pointer == "/quantize_inputs") return value == true;
  if (pointer == "/initializer/batchnorm_adaptation") return value.value("num_bn_adaptation_samples", 1) == 0;
  return pointer.find("target_scopes") != std::string::npos && names_everything(value);
}

class Warnings {
 public:
  explicit Warnings(const json& document) : document_(document) {}

  std::vector<std::string> all() {
    const std::vector<ConfigSection> sections = sections_of(document_);
    add_settings(sections);
    add_algorithms(sections);
    add_top();
    for (const auto& section : sections) {
      if (nncf_algorithms().at(section.algorithm)) add_section(section);
    }
    return warnings_;
  }

 private:
  void add(const std::string& path, const std::string& text) {
    warnings_.push_back(fmt::format("configuration: {} has no effect: {}", path, text));
  }

  void add_settings(const std::vector<ConfigSection>& sections) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : document_.items()) {
      if (std::find(std::begin(kReadAtTop), std::end(kReadAtTop), key) == std::end(kReadAtTop)) keys.push_back(key);
    }
    for (const auto& section : sections) {
      if (!nncf_algorithms().at(section.algorithm)) continue;
      for (const char* pointer : kTraining) {
        const json* value = find_value(*section.content, pointer);
        if (value && !asks_for_nothing(pointer, *value)) keys.push_back(path_to(section.path, pointer));
      }
    }
    if (keys.empty()) return;
    warnings_.push_back(fmt::format("configuration: settings of training or of other programs have no effect: {}",
                                    fmt::join(keys, ", ")));
  }

  void add_algorithms(const std::vector<ConfigSection>& sections) {
    std::vector<std::string> others;
    for (const auto& section : sections) {
      if (nncf_algorithms().at(section.algorithm)) continue;
      others.push_back(fmt::format("{} ({})", section.path, section.algorithm));
    }
    if (others.empty()) return;
    warnings_.push_back(fmt::format("configuration: sections of other algorithms than quantization have no effect: {}",
                                    fmt::join(others, ", ")));
  }

  void add_top() {
    if (document_.value("target_device", "") == "TRIAL") {
      warnings_.push_back("configuration: target_device TRIAL has no table of hardware: that of ANY is used");
    }
    const json* targets = find_value(document_, "/target_scopes");
    if (targets && !asks_for_nothing("/target_scopes", *targets)) add("target_scopes", kAllQuantized);
    if (!document_.contains("accuracy_aware_training")) return;
    if (document_.contains("accuracy_control")) return add("accuracy_aware_training", "accuracy_control holds");
    warnings_.push_back(
        "configuration: accuracy_aware_training trains nothing: its limit is that of quantize_with_accuracy_control");
  }

  void add_section(const ConfigSection& section) {
    for (const auto& [pointer, consequence] : kMissing) {
      const json* value = find_value(*section.content, pointer);
      if (value && !asks_for_nothing(pointer, *value)) add(path_to(section.path, pointer), consequence);
    }
    const json* range = find_value(*section.content, "/initializer/range");
    if (!range) return;
    const std::string path = section.path + ".initializer.range";
    if (range->is_object()) return add_range(*range, path);
    for (size_t i = 0; i < range->size(); ++i) add_range(range->at(i), fmt::format("{}[{}]", path, i));
  }

  void add_range(const json& range, const std::string& path) {
    if (!holds_for_all_operators(range)) return add(path, "ranges have no initializer for some of the operators");
    if (range.contains("num_init_samples") && range.at("num_init_samples") == 0) {
      add(path + ".num_init_samples", "ranges need samples: the number of the options holds");
    }
    const std::string type = range.value("type", "");
    if (type == "threesigma") add(path + ".type", "there is no threesigma: the default of each tensor holds");
    if (type == "percentile") {
      warnings_.push_back(
          fmt::format("configuration: {}.type percentile is computed as mean_percentile: of each sample, "
                      "then the mean over samples",
                      path));
    }
  }

  const json& document_;
  std::vector<std::string> warnings_;
};

}  // namespace

std::vector<std::string> config_warnings(const json& document) { return Warnings(document).all(); }

void check_top_keys(const json& document, const std::string& place) {
  std::vector<std::string> known;
  for (const auto& entry : config_schema().at("properties").items()) known.push_back(entry.key());
  for (const auto& entry : document.items()) {
    const std::string meant = misspelt(entry.key(), known);
    if (meant.empty()) continue;
    throw Error(ErrorCode::kInvalidArgument, fmt::format("unknown key \"{}\"", entry.key()), place,
                fmt::format("the nearest is \"{}\"", meant));
  }
}

}  // namespace tsquant
