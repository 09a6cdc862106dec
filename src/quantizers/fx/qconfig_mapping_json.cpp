#include <fmt/format.h>

#include <functional>

#include "quantizers/fx/json_object.h"
#include "quantizers/fx/qconfig_json.h"
#include "tsquant/fx/qconfig_mapping.h"

namespace tsquant::fx {

namespace {

Json optional_json(const OptionalQConfig& qconfig) { return qconfig ? qconfig_json(*qconfig) : Json(nullptr); }

OptionalQConfig read_optional(const Json& json, const std::string& place) {
  if (json.is_null()) return c10::nullopt;
  return read_qconfig(json, place);
}

Json entries_json(const QConfigMapping::Entries<std::string>& entries) {
  Json json = Json::array();
  for (const auto& [key, qconfig] : entries) json.push_back({key, optional_json(qconfig)});
  return json;
}

/// Lists of `length` elements; the last one is a qconfig, the others are names, or an index.
void for_each_entry(const JsonObject& object, const std::string& key, size_t length,
                    const std::function<void(const Json& entry, const OptionalQConfig& qconfig)>& visit) {
  const Json* list = object.find(key);
  if (!list) return;
  if (!list->is_array()) refuse_json(*list, "a list", object.place_of(key));
  for (size_t i = 0; i < list->size(); ++i) {
    const Json& entry = (*list)[i];
    const std::string place = fmt::format("{}[{}]", object.place_of(key), i);
    if (!entry.is_array() || entry.size() != length) {
      refuse_json(entry, fmt::format("a list of {} with the qconfig at its end", length), place);
    }
    for (size_t k = 0; k + 1 < length; ++k) {
      const bool fits = k == 2 ? entry[k].is_number_integer() : entry[k].is_string();
      if (!fits) refuse_json(entry[k], k == 2 ? "an index" : "a name", place);
    }
    visit(entry, read_optional(entry.back(), place));
  }
}

Json mapping_json(const QConfigMapping& mapping) {
  Json positions = Json::array();
  for (const auto& [key, qconfig] : mapping.module_name_object_type_order_qconfigs()) {
    positions.push_back({key.module_name, key.object_type, key.index, optional_json(qconfig)});
  }
  return {{"", optional_json(mapping.global_qconfig())},
          {"object_type", entries_json(mapping.object_type_qconfigs())},
          {"module_name_regex", entries_json(mapping.module_name_regex_qconfigs())},
          {"module_name", entries_json(mapping.module_name_qconfigs())},
          {"module_name_object_type_order", positions}};
}

QConfigMapping read_mapping(const Json& json, const std::string& place) {
  const JsonObject object(json, place,
                          {"", "object_type", "module_name_regex", "module_name", "module_name_object_type_order"});
  QConfigMapping mapping;
  if (const Json* global = object.find("")) mapping.set_global(read_optional(*global, object.place_of("")));
  const auto name = [](const Json& entry) { return entry[0].get<std::string>(); };
  for_each_entry(object, "object_type", 2, [&](const Json& entry, const OptionalQConfig& qconfig) {
    mapping.set_object_type(name(entry), qconfig);
  });
  for_each_entry(object, "module_name_regex", 2, [&](const Json& entry, const OptionalQConfig& qconfig) {
    mapping.set_module_name_regex(name(entry), qconfig);
  });
  for_each_entry(object, "module_name", 2, [&](const Json& entry, const OptionalQConfig& qconfig) {
    mapping.set_module_name(name(entry), qconfig);
  });
  for_each_entry(object, "module_name_object_type_order", 4, [&](const Json& entry, const OptionalQConfig& qconfig) {
    mapping.set_module_name_object_type_order(name(entry), entry[1].get<std::string>(), entry[2].get<int64_t>(),
                                              qconfig);
  });
  return mapping;
}

}  // namespace

std::string QConfigMapping::to_json() const { return mapping_json(*this).dump(2); }

QConfigMapping QConfigMapping::from_json(const std::string& text) {
  return read_mapping(parse_json(text, "qconfig_mapping"), "qconfig_mapping");
}

}  // namespace tsquant::fx
