#include "quantizers/fx/qconfig_rules.h"

namespace tsquant::fx {

QConfigRules::QConfigRules(const QConfigMapping& mapping, std::string prefix)
    : global_(mapping.global_qconfig()), prefix_(std::move(prefix)), names_(mapping.module_name_qconfigs()) {
  for (const auto& [type, qconfig] : mapping.object_type_qconfigs()) {
    types_.emplace_back(parse_object_type(type, "object_type"), qconfig);
  }
  for (const auto& [regex, qconfig] : mapping.module_name_regex_qconfigs()) {
    regexes_.emplace_back(std::regex(regex), qconfig);
  }
  for (const auto& [position, qconfig] : mapping.module_name_object_type_order_qconfigs()) {
    positions_.push_back({position, parse_object_type(position.object_type, "object_type"), qconfig});
  }
}

c10::optional<OptionalQConfig> QConfigRules::by_type(const OperatorSite& site) const {
  c10::optional<OptionalQConfig> found, around;
  for (const auto& [type, qconfig] : types_) {
    if (!fits(site, type)) continue;
    const bool is_module_around = type.kind == ObjectType::Kind::kClass && !site.in_layer;
    (is_module_around ? around : found) = qconfig;
  }
  return around ? around : found;
}

OptionalQConfig QConfigRules::by_name(const std::string& path, OptionalQConfig qconfig) const {
  for (const auto& [regex, value] : regexes_) {
    if (!std::regex_search(path, regex, std::regex_constants::match_continuous)) continue;
    qconfig = value;
    break;
  }
  size_t longest = 0;
  bool found = false;
  for (const auto& [name, value] : names_) {
    if (!pt2e::is_inside(path, name) || (found && name.size() <= longest)) continue;
    qconfig = value;
    longest = name.size();
    found = true;
  }
  return qconfig;
}

OptionalQConfig QConfigRules::of_module(const Submodule& module) const {
  OperatorSite site;
  site.module_class = module.module_class;
  site.in_layer = true;
  const std::string path = prefix_.empty() ? module.path : module.path.substr(prefix_.size() + 1);
  return by_name(path, by_type(site).value_or(global_));
}

OptionalQConfig QConfigRules::next(const OperatorSite& site) {
  const auto inside = [&](const std::string& path) {
    return path.size() > prefix_.size() ? path.substr(prefix_.empty() ? 0 : prefix_.size() + 1) : "";
  };
  OptionalQConfig qconfig = by_name(inside(site.module_path), by_type(site).value_or(global_));
  for (auto& rule : positions_) {
    if (rule.position.module_name != inside(site.parent_path()) || !fits(site, rule.type)) continue;
    if (rule.seen++ == rule.position.index) qconfig = rule.qconfig;
  }
  return qconfig;
}

}  // namespace tsquant::fx
