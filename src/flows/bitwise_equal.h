#pragma once

#include <ATen/core/ivalue.h>

namespace tsquant {

/// Same structure (tuples, lists, dictionaries), same dtypes, shapes and bits. NaN equals NaN.
bool bitwise_equal(const c10::IValue& a, const c10::IValue& b);

}  // namespace tsquant
