#include "tsquant/fx/qconfig_mapping.h"

#include <fmt/format.h>

#include <algorithm>
#include <regex>

#include "quantizers/fx/object_type.h"
#include "tsquant/error.h"

namespace tsquant::fx {

namespace {

/// A key that is set again keeps its place, as in Python's dictionaries.
template <typename Key>
void set(QConfigMapping::Entries<Key>& entries, const Key& key, const OptionalQConfig& qconfig) {
  const auto known =
      std::find_if(entries.begin(), entries.end(), [&](const auto& entry) { return entry.first == key; });
  if (known != entries.end()) {
    known->second = qconfig;
  } else {
    entries.emplace_back(key, qconfig);
  }
}

}  // namespace

QConfigMapping& QConfigMapping::set_global(const OptionalQConfig& qconfig) {
  global_ = qconfig;
  return *this;
}

QConfigMapping& QConfigMapping::set_object_type(const std::string& object_type, const OptionalQConfig& qconfig) {
  const std::string key = parse_object_type(object_type, "set_object_type").text();
  object_types_.erase(
      std::remove_if(object_types_.begin(), object_types_.end(), [&](const auto& entry) { return entry.first == key; }),
      object_types_.end());
  object_types_.emplace_back(key, qconfig);
  return *this;
}

QConfigMapping& QConfigMapping::set_module_name_regex(const std::string& regex, const OptionalQConfig& qconfig) {
  try {
    const std::regex checked(regex);
  } catch (const std::regex_error& error) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("\"{}\" is no regular expression: {}", regex, error.what()),
                "set_module_name_regex");
  }
  set(regexes_, regex, qconfig);
  return *this;
}

QConfigMapping& QConfigMapping::set_module_name(const std::string& module_name, const OptionalQConfig& qconfig) {
  set(module_names_, module_name, qconfig);
  return *this;
}

QConfigMapping& QConfigMapping::set_module_name_object_type_order(const std::string& module_name,
                                                                  const std::string& object_type, int64_t index,
                                                                  const OptionalQConfig& qconfig) {
  constexpr const char* kFunction = "set_module_name_object_type_order";
  if (index < 0) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("the index is {}", index), kFunction, "count from 0");
  }
  set(positions_, Position{module_name, parse_object_type(object_type, kFunction).text(), index}, qconfig);
  return *this;
}

bool QConfigMapping::operator==(const QConfigMapping& other) const {
  return global_ == other.global_ && object_types_ == other.object_types_ && regexes_ == other.regexes_ &&
         module_names_ == other.module_names_ && positions_ == other.positions_;
}

}  // namespace tsquant::fx
