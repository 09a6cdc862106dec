#pragma once

#include "graph/params.h"

namespace tsquant {

/// Whether a method other than forward reads the attribute.
bool is_read_by_other_methods(const Model& model, const AttributeSlot& slot);

}  // namespace tsquant
