#include "passes/compare_outputs.h"

#include <gtest/gtest.h>
#include <torch/script.h>

#include <limits>

namespace tsquant::testing {
namespace {

TEST(CompareOutputs, DifferenceIsRelativeToTheLargestMagnitude) {
  const auto a = at::tensor({0.0, 10.0}), b = at::tensor({0.1, 10.0});
  EXPECT_NEAR(compare_outputs(a, b).relative, 0.01, 1e-7);
  EXPECT_EQ(compare_outputs(a, a).relative, 0);
}

TEST(CompareOutputs, LooksIntoContainers) {
  const auto make = [](double value) {
    c10::Dict<std::string, at::Tensor> dict;
    dict.insert("y", at::full({2}, value));
    return c10::IValue(c10::ivalue::Tuple::create({c10::IValue(std::vector<at::Tensor>{at::ones({1})}), dict}));
  };
  EXPECT_EQ(compare_outputs(make(1), make(1)).relative, 0);
  EXPECT_NEAR(compare_outputs(make(1), make(2)).relative, 1, 1e-9);
}

TEST(CompareOutputs, ReportsShapeDtypeAndStructure) {
  EXPECT_NE(compare_outputs(at::ones({2}), at::ones({3})).mismatch, "");
  EXPECT_NE(compare_outputs(at::ones({2}), at::ones({2}, at::kDouble)).mismatch, "");
  EXPECT_NE(compare_outputs(at::ones({2}), int64_t{1}).mismatch, "");
  EXPECT_NE(compare_outputs(at::ones({2}, at::kLong), at::zeros({2}, at::kLong)).mismatch, "");
  EXPECT_NE(compare_outputs(std::vector<at::Tensor>{at::ones({1})}, std::vector<at::Tensor>{}).mismatch, "");
}

TEST(CompareOutputs, NanMustStayInPlace) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto a = at::tensor({nan, 1.0}), b = at::tensor({1.0, nan});
  EXPECT_EQ(compare_outputs(a, a).mismatch, "");
  EXPECT_NE(compare_outputs(a, b).mismatch, "");
}

}  // namespace
}  // namespace tsquant::testing
