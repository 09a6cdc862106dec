#pragma once

#include <gtest/gtest.h>

#include <string>

#include "graph/node_lists.h"
#include "passes/compare_outputs.h"
#include "tsquant/model.h"

namespace tsquant::testing {

/// Number of operators of this kind in all blocks.
inline size_t count_kind(const Model& model, const std::string& kind) {
  return nodes_of_kind(model.graph()->block(), {kind}).size();
}

/// The models compute the same, within `tolerance` of the largest magnitude.
inline void expect_same(const c10::IValue& expected, const c10::IValue& actual, double tolerance = 1e-5) {
  const auto difference = compare_outputs(expected, actual);
  EXPECT_EQ(difference.mismatch, "");
  EXPECT_LE(difference.relative, tolerance);
}

}  // namespace tsquant::testing
