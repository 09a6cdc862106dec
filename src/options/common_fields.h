#pragma once

#include "options/field.h"

namespace tsquant {

/// Sets every option of `to` that `from` has under the same name and with a value.
template <typename From, typename To>
void copy_common(const From& from, To& to) {
  for (const auto& source : fields<From>()) {
    const nlohmann::json value = source.get(from);
    if (value.is_null()) continue;
    for (const auto& row : fields<To>()) {
      if (row.name == source.name) row.set(to, value);
    }
  }
}

}  // namespace tsquant
