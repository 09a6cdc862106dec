#include "quantizers/fx/qconfig_rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "tsquant/error.h"

namespace tsquant::fx {

namespace {

bool matches_start(const std::string& path, const std::regex& regex) {
  return std::regex_search(path, regex, std::regex_constants::match_continuous);
}

}  // namespace

QConfigRules::QConfigRules(const QConfigMapping& mapping, std::string prefix)
    : global_(mapping.global_qconfig()), prefix_(std::move(prefix)), names_(mapping.module_name_qconfigs()) {
  for (const auto& [type, qconfig] : mapping.object_type_qconfigs()) {
    types_.emplace_back(parse_object_type(type, "object_type"), qconfig);
  }
  for (const auto& [regex, qconfig] : mapping.module_name_regex_qconfigs()) {
    regexes_.push_back({regex, std::regex(regex), qconfig});
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
  const auto named = std::find_if(regexes_.begin(), regexes_.end(),
                                  [&](const RegexRule& rule) { return matches_start(path, rule.regex); });
  if (named != regexes_.end()) qconfig = named->qconfig;
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

void QConfigRules::require_used(const std::vector<Submodule>& modules) const {
  for (const auto& rule : regexes_) {
    const bool fits_any = std::any_of(modules.begin(), modules.end(),
                                      [&](const Submodule& module) { return matches_start(module.path, rule.regex); });
    if (fits_any) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("no path of a module begins as the expression \"{}\" says", rule.text),
                "set_module_name_regex", "write it for paths such as \"layer1.0.conv1\", or leave it out");
  }
  for (const auto& rule : positions_) {
    if (rule.seen > rule.position.index) continue;
    const auto& [path, type, index] = rule.position;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} calls {} operators of type {}, so there is none with index {}",
                            path.empty() ? "the model itself" : "module \"" + path + "\"", rule.seen, type, index),
                "set_module_name_object_type_order",
                "count from 0 among the operators that the code of this very module calls");
  }
}

}  // namespace tsquant::fx
