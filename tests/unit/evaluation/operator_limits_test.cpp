#include "evaluation/operator_limits.h"

#include <gtest/gtest.h>

#include "evaluation/quantized_operator.h"

namespace tsquant {
namespace {

/// @param products of one run, thousands
OperatorTime timed(const char* name, double products, double megabytes, double calls = 1) {
  OperatorTime time;
  time.name = name;
  time.calls = calls;
  time.megabytes = megabytes;
  time.work.multiply_adds = products;
  time.is_quantized = is_quantized_operator(name);
  return time;
}

TEST(OperatorLimits, ProductsAreWhatLimitsLayers) {
  OperatorLimits one(1), two(2);
  const double whole = one.limit_ms(timed("aten::conv2d", 1e6, 0.1));
  EXPECT_GT(whole, 1) << "no core makes 1e12 products in a second";
  EXPECT_LT(whole, 1e4);
  EXPECT_DOUBLE_EQ(one.limit_ms(timed("aten::conv2d", 2e6, 0.1)), 2 * whole);
  OperatorTime channels = timed("aten::conv2d", 0, 0.1);
  channels.work.channel_multiply_adds = 1e6;
  EXPECT_DOUBLE_EQ(one.limit_ms(channels), whole);
  EXPECT_LT(two.limit_ms(timed("aten::conv2d", 1e6, 0.1)), 0.9 * whole);
}

TEST(OperatorLimits, CodesHaveARateOfTheirOwn) {
  OperatorLimits limits(1);
  const double floats = limits.limit_ms(timed("aten::linear", 1e6, 0.1));
  EXPECT_NE(limits.limit_ms(timed("tsquant::linear", 1e6, 0.1)), floats);
  EXPECT_NE(limits.limit_ms(timed("tsquant::linear_compressed_dynamic", 1e6, 0.1)), floats);
  EXPECT_DOUBLE_EQ(limits.limit_ms(timed("tsquant::linear_compressed", 1e6, 0.1)), floats) << "inputs stay float";
}

TEST(OperatorLimits, BytesAreWhatLimitsTheOthers) {
  OperatorLimits limits(1);
  const double once = limits.limit_ms(timed("tsquant::add", 0, 0.05));
  EXPECT_GT(once, 0);
  EXPECT_DOUBLE_EQ(limits.limit_ms(timed("tsquant::add", 0, 0.15, 3)), 3 * once) << "three calls of the same size";
  // 64 MB of weights for a few products.
  EXPECT_GT(limits.limit_ms(timed("aten::linear", 16, 64)), limits.limit_ms(timed("aten::linear", 16, 0.01)));
}

TEST(OperatorLimits, WhatIsNotKnownHasNone) {
  OperatorLimits limits(1);
  for (const char* name : {"aten::view", "aten::embedding", "tsquant::embedding_compressed", "tsquant::lstm"}) {
    EXPECT_LT(limits.limit_ms(timed(name, 0, 1)), 0) << name;
  }
}

}  // namespace
}  // namespace tsquant
