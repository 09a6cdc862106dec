// tsquant::linear_compressed_dynamic against the same arithmetic in whole tensors, for every instruction set.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "targets.h"
#include "unit/torch_ext_ops/compressed_weight.h"

namespace tsquant::testing {
namespace {

at::Tensor dynamic(const at::Tensor& x, const StoredWeight& w, const c10::IValue& bias = {}) {
  return call_compressed("linear_compressed_dynamic", {x, w.weight, w.scale, w.zero_point, bias, w.format, w.size,
                                                       w.group_size, w.codebook, w.tensor_scale});
}

/// Codes of the input, sums of groups in float64, where they are exact, and float32 from there on.
at::Tensor expected_dynamic(const at::Tensor& x, const StoredWeight& w) {
  const int64_t groups = w.group_size == -1 ? 1 : w.size / w.group_size;
  const auto rows = x.reshape({-1, groups, w.size / groups});
  const auto largest = rows.abs().amax(-1, true);
  const auto codes = at::where(largest > 0, at::round(rows * (127 / largest)), at::zeros({}));
  const auto scales = w.scale.to(at::kDouble).reshape({w.rows, groups, 1});
  const auto levels = at::round(w.values.reshape({w.rows, groups, -1}) / scales);
  at::Tensor total = at::zeros({rows.size(0), w.rows});
  for (int64_t g = 0; g < groups; ++g) {
    const auto sums = at::matmul(codes.select(1, g).to(at::kDouble), levels.select(1, g).t()).to(at::kFloat);
    total = total + sums * ((largest.select(1, g) / 127) * scales.select(1, g).to(at::kFloat).t());
  }
  return total;
}

struct DynamicCase {
  Format format;
  bool asymmetric;
  int64_t size, group_size;
};

/// Formats of all numbers of bits, and groups of every kind: whole steps, several in a step, odd ones.
std::vector<DynamicCase> dynamic_cases() {
  std::vector<DynamicCase> cases;
  for (int bits = 2; bits <= 8; ++bits) {
    for (const bool asymmetric : {false, true}) {
      for (const auto& [size, group] : std::vector<std::pair<int64_t, int64_t>>{{1, -1},
                                                                                {7, -1},
                                                                                {64, -1},
                                                                                {333, -1},
                                                                                {96, 32},
                                                                                {384, 128},
                                                                                {192, 96},
                                                                                {80, 16},
                                                                                {40, 8},
                                                                                {39, 3},
                                                                                {60, 10},
                                                                                {128, -1},
                                                                                {256, 32},
                                                                                {320, 64},
                                                                                {384, 64}}) {
        cases.push_back({integer_format(bits), asymmetric, size, group});
      }
    }
  }
  return cases;
}

class DynamicLinear : public EveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, DynamicLinear, all_targets(), target_name);

TEST_P(DynamicLinear, GivesTheBitsOfThePlainArithmetic) {
  at::manual_seed(31);
  for (const DynamicCase& c : dynamic_cases()) {
    const auto w = store(row_of(c.format), 19, c.size, {c.asymmetric, c.group_size});
    const auto x = at::randn({11, c.size}), bias = at::randn({19});
    const auto expected = expected_dynamic(x, w);
    SCOPED_TRACE(w.format + (c.asymmetric ? " asym " : " sym ") + std::to_string(c.size) + " in groups of " +
                 std::to_string(c.group_size));
    for (const int64_t inputs : {1, 3, 5, 11}) {
      EXPECT_TRUE(identical(dynamic(x.narrow(0, 0, inputs), w), expected.narrow(0, 0, inputs))) << inputs << " inputs";
    }
    EXPECT_TRUE(identical(dynamic(x[0], w, bias), expected[0] + bias));
    EXPECT_TRUE(identical(dynamic(x, w, bias), expected + bias));
  }
}

TEST_P(DynamicLinear, LargestCodesAndInputsDoNotSaturate) {
  for (const int bits : {2, 3, 4, 7, 8}) {
    for (const int64_t group : {-1, 64}) {
      auto w = store(row_of(integer_format(bits)), 17, 1024, {true, group});
      w.weight.fill_(255);
      w.zero_point = at::zeros_like(w.zero_point.toTensor());
      w.scale.fill_(1);
      w.values = at::full({17, 1024}, (1 << bits) - 1, at::kDouble);
      for (const double sign : {1.0, -1.0}) {
        const auto x = at::full({6, 1024}, sign * 127);
        const auto expected = at::full({6, 17}, sign * 127 * 1024 * ((1 << bits) - 1));
        EXPECT_TRUE(identical(dynamic(x, w), expected)) << bits << " bits";
        EXPECT_TRUE(identical(dynamic(x[0], w), expected[0])) << bits << " bits";
      }
    }
  }
}

TEST_P(DynamicLinear, StaysWithinItsTensors) {
  at::manual_seed(32);
  for (const DynamicCase& c : dynamic_cases()) {
    auto w = store(row_of(c.format), 5, c.size, {c.asymmetric, c.group_size});
    const auto x = at::randn({3, c.size});
    const auto expected = dynamic(x, w);
    const at::Tensor weight = w.weight;
    for (const bool at_end : {false, true}) {
      const auto* bytes = static_cast<const uint8_t*>(weight.data_ptr());
      const GuardedBytes guarded({bytes, bytes + weight.numel()}, at_end);
      w.weight = at::from_blob(guarded.data(), weight.sizes(), weight.options());
      for (const int64_t inputs : {1, 3}) {
        EXPECT_TRUE(identical(dynamic(x.narrow(0, 0, inputs), w), expected.narrow(0, 0, inputs)));
      }
      EXPECT_TRUE(identical(dynamic(x.repeat({3, 1}), w), expected.repeat({3, 1})));
    }
  }
}

TEST_P(DynamicLinear, InfinitiesAndNanReachTheirRowsOnlyAndZerosStay) {
  const auto w = store(row_of(Format::kInt4), 3, 64, {true, 32});
  for (const int64_t inputs : {4, 12}) {
    auto x = at::randn({inputs, 64});
    x[1][5] = NAN;
    x[2][40] = -INFINITY;
    x[3].zero_();
    const auto y = dynamic(x, w);
    EXPECT_TRUE(at::isfinite(y[0]).all().item<bool>());
    EXPECT_TRUE(at::isnan(y[1]).all().item<bool>());
    EXPECT_TRUE(at::isnan(y[2]).all().item<bool>());
    EXPECT_TRUE(y[3].eq(0).all().item<bool>());
  }
}

/// ||dynamic - float|| / ||float||
double relative_error(const at::Tensor& x, const StoredWeight& w) {
  const auto exact = at::matmul(x.to(at::kDouble), w.values.t());
  return ((dynamic(x, w).to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

TEST(DynamicLinearError, IsThatOfRoundingInputsTo8Bits) {
  at::manual_seed(33);
  for (const bool asymmetric : {false, true}) {
    const auto groups = store(row_of(Format::kInt4), 64, 1024, {asymmetric, 32});
    const auto channels = store(row_of(Format::kInt8), 64, 1024, {asymmetric, -1});
    const auto x = at::randn({16, 1024});
    // A step is max / 127: with max at 2 to 4 standard deviations the rounding error is 0.5 to 0.9 % of one.
    EXPECT_LT(relative_error(x, groups), 0.008);
    EXPECT_LT(relative_error(x, channels), 0.012);
    EXPECT_GT(relative_error(x, groups), 1e-4) << "inputs are not rounded";
    // An input 50 times as large as the others coarsens the codes of its group, or of the whole row: there a step is
    // 50 / 127, and rounding to it errs by 11 % of a standard deviation.
    auto outliers = x.clone();
    outliers.select(1, 100).fill_(50);
    EXPECT_LT(relative_error(outliers, groups), 0.02);
    EXPECT_LT(relative_error(outliers, channels), 0.12);
  }
}

TEST(DynamicLinearChecks, SayWhatIsWrong) {
  const auto refused = [](const at::Tensor& x, const StoredWeight& w, const std::string& text) {
    return fails_with([&] { dynamic(x, w); }, text);
  };
  const auto w = store(row_of(Format::kInt4), 6, 64, {true, 32});
  const std::string op = "tsquant::linear_compressed_dynamic: ";
  EXPECT_TRUE(refused(at::randn({2, 63}), w, op + "x must have 64 elements in its last dimension"));
  EXPECT_TRUE(refused(at::randn({2, 64}).to(at::kDouble), w, op + "x must be float32, float16 or bfloat16"));
  EXPECT_TRUE(refused(at::randn({2, 64}), store(row_of(Format::kNf4), 6, 64, {}), op + "nf4 is no integer format"));
  EXPECT_TRUE(refused(at::randn({2, 64}), store(row_of(Format::kF8E4M3), 6, 64, {}), "is no integer format"));
  StoredWeight wide = w;
  wide.weight = at::zeros({1, 40000}, at::kByte);
  wide.scale = at::ones({1, 1, 1});
  wide.zero_point = c10::IValue();
  wide.size = 80000;
  wide.group_size = -1;
  EXPECT_TRUE(refused(at::randn({1, 80000}), wide, "groups of 80000 elements are too long for sums of 32 bits"));
  EXPECT_EQ(dynamic(at::randn({0, 64}), w).sizes(), (std::vector<int64_t>{0, 6}));
}

TEST(DynamicLinearThreads, ChangeNoBit) {
  at::manual_seed(34);
  const int before = at::get_num_threads();
  const auto w = store(row_of(Format::kInt4), 333, 640, {true, 32});
  const auto x = at::randn({37, 640});
  at::set_num_threads(1);
  const auto expected = dynamic(x, w), one = dynamic(x[0], w);
  for (const int threads : {2, 3}) {
    at::set_num_threads(threads);
    EXPECT_TRUE(identical(dynamic(x, w), expected));
    EXPECT_TRUE(identical(dynamic(x[0], w), one));
  }
  at::set_num_threads(before);
}

}  // namespace
}  // namespace tsquant::testing
