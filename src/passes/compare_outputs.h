#pragma once

#include <ATen/core/ivalue.h>

#include <string>

namespace tsquant {

/// How far two results of a model are apart.
struct OutputDifference {
  double relative = 0;   ///< largest |a - b| of any tensor, divided by the tensor's largest magnitude in `expected`
  std::string mismatch;  ///< not empty: structure, shape, dtype or a non-floating value differs
};

/// Compares tensors inside tuples, lists and dicts. NaN and infinities must stand in the same places.
OutputDifference compare_outputs(const c10::IValue& expected, const c10::IValue& actual);

}  // namespace tsquant
