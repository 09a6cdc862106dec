#include "quantizers/fx/float_operators.h"

#include <fmt/format.h>

#include <algorithm>

#include "quantizers/fx/qconfig_rules.h"
#include "quantizers/fx/site_table.h"
#include "tsquant/error.h"

namespace tsquant::fx {

namespace {

std::string text_of(const std::string& key) { return "\"" + key + "\""; }
std::string text_of(const QConfigMapping::Position& position) {
  return fmt::format("(\"{}\", \"{}\", {})", position.module_name, position.object_type, position.index);
}

[[noreturn]] void refuse_mapping(const std::string& kind, const std::string& key, const char* why) {
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{} {}{}{}", kind, key, key.empty() ? "" : " ", why),
              "qconfig_mapping", "give convert_fx the mapping of prepare_fx, with null for what stays in float");
}

template <typename Key>
const OptionalQConfig* find(const QConfigMapping::Entries<Key>& entries, const Key& key) {
  const auto found =
      std::find_if(entries.begin(), entries.end(), [&](const auto& entry) { return entry.first == key; });
  return found == entries.end() ? nullptr : &found->second;
}

template <typename Key>
void check_entries(const char* kind, const QConfigMapping::Entries<Key>& prepared,
                   const QConfigMapping::Entries<Key>& conversion) {
  for (const auto& [key, value] : prepared) {
    const OptionalQConfig* now = find(conversion, key);
    if (!now) refuse_mapping(kind, text_of(key), "is missing, but was there when the model was prepared");
    if (*now && *now != value) refuse_mapping(kind, text_of(key), "has another value than when the model was prepared");
  }
  for (const auto& [key, value] : conversion) {
    if (value && !find(prepared, key)) refuse_mapping(kind, text_of(key), "was not there when the model was prepared");
  }
}

}  // namespace

std::set<std::string> float_operators(const GraphView& view, const QConfigMapping& mapping) {
  const SiteTable sites(view, {});
  QConfigRules rules(mapping);
  std::set<std::string> names;
  for (const auto& node : view.nodes()) {
    if (node.kind == NodeKind::kOperator && !rules.next(sites.at(node.id))) names.insert(node.name);
  }
  return names;
}

void check_conversion_mapping(const QConfigMapping& prepared, const QConfigMapping& conversion) {
  if (conversion.global_qconfig() && conversion.global_qconfig() != prepared.global_qconfig()) {
    refuse_mapping("the global qconfig", "", "has another value than when the model was prepared");
  }
  check_entries("object_type", prepared.object_type_qconfigs(), conversion.object_type_qconfigs());
  check_entries("module_name_regex", prepared.module_name_regex_qconfigs(), conversion.module_name_regex_qconfigs());
  check_entries("module_name", prepared.module_name_qconfigs(), conversion.module_name_qconfigs());
  check_entries("module_name_object_type_order", prepared.module_name_object_type_order_qconfigs(),
                conversion.module_name_object_type_order_qconfigs());
}

}  // namespace tsquant::fx
