#include "lowering/compressed/stored_weight.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "compression/round_to_nearest.h"

namespace tsquant::testing {
namespace {

/// The type in which a scale is stored beside one of 1.
c10::ScalarType type_with(float scale) {
  QuantizationSpec spec;
  spec.format = Format::kInt4;
  spec.group_size = 8;
  at::manual_seed(1);
  auto weight = round_to_nearest(at::randn({2, 8}), spec);
  weight.qparams.scale = at::tensor({1.0F, scale}).reshape({2, 1});
  const StoredWeight stored = store_weight(weight, {2, 8}, at::kFloat);
  EXPECT_TRUE(at::equal(stored.scale.to(at::kFloat).reshape({-1})[0], at::ones({})));
  return stored.scale.scalar_type();
}

TEST(StoredWeight, ScalesAreFloat16UnlessThatLosesOne) {
  const float to_infinity = 65520, to_zero = std::ldexp(1.0F, -25);
  for (const float sign : {1.0F, -1.0F}) {
    for (const float fits : {0.0F, 0.01F, 65504.0F, std::nextafter(to_infinity, 0.0F), std::nextafter(to_zero, 1.0F)}) {
      EXPECT_EQ(type_with(sign * fits), at::kHalf) << fits;
      const auto half = at::tensor({fits}).to(at::kHalf).to(at::kFloat);
      EXPECT_TRUE(std::isfinite(half.item<float>()) && (half.item<float>() != 0 || fits == 0)) << fits;
    }
    for (const float lost : {to_infinity, 1e30F, to_zero, 1e-30F}) {
      EXPECT_EQ(type_with(sign * lost), at::kFloat) << lost;
      const auto half = at::tensor({lost}).to(at::kHalf).to(at::kFloat);
      EXPECT_TRUE(!std::isfinite(half.item<float>()) || half.item<float>() == 0) << lost;
    }
  }
}

}  // namespace
}  // namespace tsquant::testing
