#pragma once

#include <fmt/format.h>

#include <string>

#include "options/field.h"
#include "tsquant/error.h"

namespace tsquant {

/// "2 to 8", "0 or more", "more than 0", "1 or less"; empty without limits.
std::string limits_text(const nlohmann::json& schema);

/// A number as people write it; NaN, which JSON does not have, too.
std::string number_text(const nlohmann::json& value);

/// Whether a number obeys the limits of a schema; what is no number does.
bool within_limits(const nlohmann::json& value, const nlohmann::json& schema);

/// @throws Error kInvalidArgument naming the first option with a number outside of its limits
template <typename Struct>
void check_limits(const Struct& object) {
  for_each_leaf(fields<Struct>(), [&](const Field<Struct>& row) {
    const nlohmann::json value = row.get(object);
    if (within_limits(value, row.schema)) return;
    const std::string is_default = row.default_value.is_null() ? "" : "; the default is " + row.default_value.dump();
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{} is {}", row.name, number_text(value)), row.name,
                fmt::format("use {}{}", limits_text(row.schema), is_default));
  });
}

/// Options that would be ignored: they differ from their default, but others switch off what they speak about.
/// @throws Error kInvalidArgument naming the first one
template <typename Struct>
void check_unused(const Struct& object) {
  for_each_leaf(fields<Struct>(), [&](const Field<Struct>& row) {
    if (!row.unused || row.get(object) == row.default_value) return;
    const std::string reason = row.unused(object);
    if (reason.empty()) return;
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{} is set, but {}", row.name, reason), row.name,
                "leave it out, or switch on what it belongs to");
  });
}

}  // namespace tsquant
