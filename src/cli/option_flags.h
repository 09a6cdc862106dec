#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "options/field.h"
#include "tsquant/error.h"

namespace tsquant::cli {

/// What a row says about its flag, and how the value is set.
struct FlagSpec {
  Flag flag;
  nlohmann::json schema, default_value;
  std::function<void(const nlohmann::json&)> set;
};

/// Adds the flag with checks and help that follow from the row.
CLI::Option* add_flag(CLI::App& app, const FlagSpec& spec);

/// Adds the flag of one row.
template <typename Struct>
CLI::Option* add_flag(CLI::App& app, const Field<Struct>& row, Struct& target) {
  Flag flag = row.flag;
  if (flag.help.empty()) flag.help = row.help;
  // The program may begin with other values than the library.
  const auto value = row.get(target);
  const auto shown = value == row.get(Struct()) ? row.default_value : value;
  return add_flag(app, {flag, row.schema, shown, [&target, set = row.set](const auto& json) { set(target, json); }});
}

/// Calls visit(row) for every row that has a flag.
template <typename Struct, typename Visit>
void for_each_flag(const Fields<Struct>& rows, const Visit& visit) {
  for (const auto& row : rows) {
    if (!row.flag.name.empty()) {
      visit(row);
    } else {
      for_each_flag(row.parts, visit);
    }
  }
}

/// Adds the flags of a struct that are in one of the groups; all flags without groups.
template <typename Struct>
std::vector<CLI::Option*> add_flags(CLI::App& app, Struct& target, const std::vector<std::string>& groups = {}) {
  std::vector<CLI::Option*> added;
  for_each_flag(fields<Struct>(), [&](const Field<Struct>& row) {
    const bool wanted = groups.empty() || std::find(groups.begin(), groups.end(), row.flag.group) != groups.end();
    if (wanted) added.push_back(add_flag(app, row, target));
  });
  return added;
}

/// "--smooth-quant" of "--smooth-quant,!--no-smooth-quant".
inline std::string first_name(const Flag& flag) { return flag.name.substr(0, flag.name.find(',')); }

/// Flags that were given, with whatever value, although other options switch off what they speak about.
/// @throws Error kInvalidArgument
template <typename Struct>
void refuse_unused_flags(const CLI::App& app, const Struct& options) {
  for_each_flag(fields<Struct>(), [&](const Field<Struct>& row) {
    const std::string name = first_name(row.flag);
    const CLI::Option* option = row.unused ? app.get_option_no_throw(name) : nullptr;
    if (!option || option->count() == 0 || row.get(options) == "") return;
    const std::string reason = row.unused(options);
    if (reason.empty()) return;
    throw Error(ErrorCode::kInvalidArgument, name + " is set, but " + reason, name,
                "leave it out, or switch on what it belongs to");
  });
}

}  // namespace tsquant::cli
