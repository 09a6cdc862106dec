#include "tsquant/fx/custom_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "tsquant/error.h"

namespace tsquant::fx {

namespace {

void set(std::vector<std::pair<std::string, StandaloneConfig>>& entries, const std::string& key,
         const StandaloneConfig& config) {
  const auto known =
      std::find_if(entries.begin(), entries.end(), [&](const auto& entry) { return entry.first == key; });
  if (known != entries.end()) {
    known->second = config;
  } else {
    entries.emplace_back(key, config);
  }
}

[[noreturn]] void refuse(const std::string& message, const char* function, const char* advice) {
  throw Error(ErrorCode::kInvalidArgument, message, function, advice);
}

}  // namespace

PrepareCustomConfig& PrepareCustomConfig::set_standalone_module_name(const std::string& module_name,
                                                                     const StandaloneConfig& config) {
  set(names_, module_name, config);
  return *this;
}

PrepareCustomConfig& PrepareCustomConfig::set_standalone_module_class(const std::string& module_class,
                                                                      const StandaloneConfig& config) {
  set(classes_, module_class, config);
  return *this;
}

PrepareCustomConfig& PrepareCustomConfig::set_float_to_observed_mapping(const std::string& float_class,
                                                                        const ModuleMaker& make_observed,
                                                                        QuantType type) {
  if (!make_observed) {
    refuse("there is no function that makes the observed module", "set_float_to_observed_mapping", "give one");
  }
  custom_modules_[type][float_class] = make_observed;
  return *this;
}

PrepareCustomConfig& PrepareCustomConfig::set_non_traceable_module_names(std::vector<std::string> names) {
  non_traceable_names_ = std::move(names);
  return *this;
}

PrepareCustomConfig& PrepareCustomConfig::set_non_traceable_module_classes(std::vector<std::string> classes) {
  non_traceable_classes_ = std::move(classes);
  return *this;
}

PrepareCustomConfig& PrepareCustomConfig::set_input_quantized_indexes(std::vector<int64_t> indexes) {
  constexpr const char* kFunction = "set_input_quantized_indexes";
  std::set<int64_t> seen;
  for (const int64_t index : indexes) {
    if (index < 0) refuse(fmt::format("an index is {}", index), kFunction, "count inputs from 0");
    if (!seen.insert(index).second) refuse(fmt::format("index {} stands twice", index), kFunction, "name it once");
  }
  input_indexes_ = std::move(indexes);
  return *this;
}

PrepareCustomConfig& PrepareCustomConfig::set_output_quantized_indexes(std::vector<int64_t> indexes) {
  if (!indexes.empty() && indexes != std::vector<int64_t>{0}) {
    refuse(fmt::format("the indexes are {}", fmt::join(indexes, ", ")), "set_output_quantized_indexes",
           "use {0}, or {} for float values: a model returns one quantized value");
  }
  output_indexes_ = std::move(indexes);
  return *this;
}

PrepareCustomConfig& PrepareCustomConfig::set_preserved_attributes(std::vector<std::string> names) {
  preserved_ = std::move(names);
  return *this;
}

ConvertCustomConfig& ConvertCustomConfig::set_observed_to_quantized_mapping(const std::string& observed_class,
                                                                            const ModuleMaker& make_quantized,
                                                                            QuantType type) {
  if (!make_quantized) {
    refuse("there is no function that makes the quantized module", "set_observed_to_quantized_mapping", "give one");
  }
  custom_modules_[type][observed_class] = make_quantized;
  return *this;
}

ConvertCustomConfig& ConvertCustomConfig::set_preserved_attributes(std::vector<std::string> names) {
  preserved_ = std::move(names);
  return *this;
}

FuseCustomConfig& FuseCustomConfig::set_preserved_attributes(std::vector<std::string> names) {
  preserved_ = std::move(names);
  return *this;
}

}  // namespace tsquant::fx
