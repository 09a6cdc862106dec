#include "flows/nncf_config/ivalue_json.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "tsquant/error.h"

namespace tsquant {

namespace {

using nlohmann::ordered_json;

[[noreturn]] void refuse_value(const std::string& path, const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: a configuration cannot hold {}", path.empty() ? "the dict" : path, what),
              "configuration", "use None, truth values, numbers, texts, lists, and dicts with text as keys");
}

/// JSON is UTF-8.
const std::string& checked_text(const std::string& text, const std::string& path) {
  try {
    ordered_json(text).dump();
  } catch (const ordered_json::exception&) {
    refuse_value(path, "a text that is no UTF-8");
  }
  return text;
}

ordered_json converted(const c10::IValue& value, const std::string& path, int depth);

ordered_json object_of(const c10::impl::GenericDict& dict, const std::string& path, int depth) {
  ordered_json object = ordered_json::object();
  for (const auto& entry : dict) {
    if (!entry.key().isString()) refuse_value(path, "a key that is no text");
    const std::string& key = checked_text(entry.key().toStringRef(), path);
    object[key] = converted(entry.value(), path.empty() ? key : path + "." + key, depth);
  }
  return object;
}

template <typename Items>
ordered_json array_of(const Items& items, const std::string& path, int depth) {
  ordered_json array = ordered_json::array();
  for (const c10::IValue& item : items) {
    array.push_back(converted(item, fmt::format("{}[{}]", path, array.size()), depth));
  }
  return array;
}

ordered_json converted(const c10::IValue& value, const std::string& path, int depth) {
  constexpr int kDeepest = 100;  // a dict may even hold itself
  if (depth > kDeepest) refuse_value(path.substr(0, path.find('.')), "values that are nested too deeply");
  if (value.isNone()) return nullptr;
  if (value.isBool()) return value.toBool();
  if (value.isInt()) return value.toInt();
  if (value.isString()) return checked_text(value.toStringRef(), path);
  if (value.isGenericDict()) return object_of(value.toGenericDict(), path, depth + 1);
  if (value.isTuple()) return array_of(value.toTupleRef().elements(), path, depth + 1);
  if (value.isList()) return array_of(value.toListRef(), path, depth + 1);
  if (!value.isDouble()) refuse_value(path, value.tagKind());
  if (!std::isfinite(value.toDouble())) refuse_value(path, fmt::format("{}", value.toDouble()));
  return value.toDouble();
}

}  // namespace

ordered_json json_of(const c10::IValue& value, const std::string& path) { return converted(value, path, 0); }

c10::IValue ivalue_of(const ordered_json& json) {
  switch (json.type()) {
    case ordered_json::value_t::boolean:
      return json.get<bool>();
    case ordered_json::value_t::number_integer:
      return json.get<int64_t>();
    case ordered_json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return json.get<double>();
      return json.get<int64_t>();
    case ordered_json::value_t::number_float:
      return json.get<double>();
    case ordered_json::value_t::string:
      return json.get<std::string>();
    case ordered_json::value_t::array: {
      c10::impl::GenericList list(c10::AnyType::get());
      for (const auto& entry : json) list.push_back(ivalue_of(entry));
      return list;
    }
    case ordered_json::value_t::object: {
      c10::impl::GenericDict dict(c10::StringType::get(), c10::AnyType::get());
      for (const auto& [key, entry] : json.items()) dict.insert(key, ivalue_of(entry));
      return dict;
    }
    default:
      return {};
  }
}

}  // namespace tsquant
