#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <random>

#include "kernel_call.h"
#include "support/random_cases.h"
#include "targets.h"

namespace tsquant::testing {
namespace {

using List = std::vector<int64_t>;

/// The values laid out with the channels innermost, whatever the rank; `batched` says which dimension they are.
at::Tensor channels_last(const at::Tensor& x, bool batched) {
  const int64_t channels = batched ? 1 : 0;
  return x.movedim(channels, -1).contiguous().movedim(-1, channels);
}

class Pooling : public EveryTarget {
 protected:
  void SetUp() override {
    EveryTarget::SetUp();
    at::manual_seed(3);
  }
};
INSTANTIATE_TEST_SUITE_P(Targets, Pooling, all_targets(), target_name);

struct PoolCase {
  List input;  // with batch
  List kernel, stride, padding, dilation;
  bool ceil_mode;
  bool has_one_layout = true;  ///< sizes that tell channels-last tensors from others
};

std::vector<PoolCase> pool_cases() {
  return {{{2, 5, 11}, {3}, {2}, {1}, {1}, false},
          {{1, 70, 10}, {2}, {}, {0}, {1}, true},
          {{2, 3, 12}, {3}, {1}, {1}, {3}, false},
          {{2, 64, 13, 14}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, false},
          {{2, 17, 13, 14}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, true},
          {{1, 33, 9, 7}, {2, 3}, {}, {1, 0}, {1, 1}, true},
          {{3, 1, 8, 9}, {3, 2}, {3, 1}, {0, 1}, {1, 1}, true},
          {{2, 4, 12, 12}, {3, 3}, {2, 1}, {1, 1}, {2, 3}, true},
          {{1, 130, 1, 1}, {1, 1}, {1, 1}, {0, 0}, {1, 1}, false},
          {{0, 4, 6, 6}, {2, 2}, {}, {0, 0}, {1, 1}, false},
          {{2, 9, 6, 7, 8}, {2, 3, 2}, {2, 2, 1}, {1, 1, 0}, {1, 1, 1}, true},
          {{1, 16, 5, 5, 5}, {3, 3, 3}, {2, 2, 2}, {0, 1, 1}, {1, 2, 1}, false}};
}

/// Small ones of one to three axes.
std::vector<PoolCase> random_pool_cases(int count, unsigned seed) {
  std::mt19937 engine(seed);
  const auto from = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(engine);
  };
  std::vector<PoolCase> cases;
  for (int i = 0; i < count; ++i) {
    PoolCase c{{from(1, 2), from(0, 3) == 0 ? from(30, 70) : from(1, 18)}, {}, {}, {}, {}, from(0, 1) == 0, false};
    for (int64_t axis = from(1, 3); axis > 0; --axis) {
      const int64_t kernel = from(1, 4), dilation = from(1, 2), reach = dilation * (kernel - 1) + 1;
      c.kernel.push_back(kernel);
      c.stride.push_back(from(1, 3));
      c.padding.push_back(from(0, kernel / 2));
      c.dilation.push_back(dilation);
      c.input.push_back(reach + from(0, 5));
    }
    cases.push_back(c);
  }
  return cases;
}

std::vector<PoolCase> chosen_and_random(int count, unsigned seed) {
  auto cases = pool_cases();
  const auto more = random_pool_cases(random_cases(count), seed);
  cases.insert(cases.end(), more.begin(), more.end());
  return cases;
}

at::Tensor max_reference(const at::Tensor& x, const PoolCase& c) {
  switch (c.kernel.size()) {
    case 1:
      return at::max_pool1d(x, c.kernel, c.stride, c.padding, c.dilation, c.ceil_mode);
    case 2:
      return at::max_pool2d(x, c.kernel, c.stride, c.padding, c.dilation, c.ceil_mode);
    default:
      return at::max_pool3d(x, c.kernel, c.stride, c.padding, c.dilation, c.ceil_mode);
  }
}

/// Calls check(x) with a batch and without, planar, channels-last and as a slice with gaps.
template <class Check>
void for_all_layouts(const at::Tensor& x, const Check& check) {
  check(x, true);
  check(channels_last(x, true), true);
  check(
      at::cat({x.dequantize(), x.dequantize()}, -1).numel() == 0 ? x : x.transpose(-1, 1).contiguous().transpose(-1, 1),
      true);
  if (x.size(0) == 0) return;
  check(x[0], false);
  check(channels_last(x[0], false), false);
}

void expect_channels_last_if(const at::Tensor& y, const at::Tensor& x, bool batched) {
  const int64_t channels = batched ? 1 : 0;
  if (x.size(channels) == 1 || x.numel() == 0) return;
  const bool last = x.stride(channels) == 1 && x.is_non_overlapping_and_dense() && x[0].numel() > x.size(channels);
  if (last && channels_last(x, batched).strides() == x.strides()) {
    EXPECT_EQ(y.strides(), channels_last(y, batched).strides());
  } else if (x.is_contiguous()) {
    EXPECT_TRUE(y.is_contiguous());
  }
}

TEST_P(Pooling, MaximaEqualLibTorch) {
  for (const at::ScalarType type : {at::kQUInt8, at::kQInt8}) {  // in five layouts: 2,120 comparisons
    for (const PoolCase& c : chosen_and_random(200, 21)) {
      for_all_layouts(random_codes(c.input, 0.1, 7, type), [&](const at::Tensor& x, bool batched) {
        const auto y = run_kernel("max_pool", {x, c.kernel, c.stride, c.padding, c.dilation, c.ceil_mode}).toTensor();
        const auto want = max_reference(x.dequantize().contiguous(), c);
        ASSERT_EQ(y.sizes(), want.sizes()) << x.sizes();
        EXPECT_TRUE(at::equal(y.dequantize().contiguous(), want.contiguous())) << x.sizes() << c.kernel;
        EXPECT_EQ(y.q_scale(), x.q_scale());
        EXPECT_EQ(y.q_zero_point(), x.q_zero_point());
        EXPECT_EQ(y.scalar_type(), type);
        if (c.has_one_layout) expect_channels_last_if(y, x, batched);
      });
    }
  }
}

TEST_P(Pooling, WindowsInThePaddingAloneGiveTheLowestCode) {
  const auto x = random_codes({1, 3, 1}, 0.1, 7, at::kQInt8);
  const auto y = run_kernel("max_pool", {x, List{2}, List{1}, List{1}, List{2}, false}).toTensor();
  EXPECT_TRUE((y.int_repr() == -128).all().item<bool>());
}

at::Tensor average_reference(const at::Tensor& x, const PoolCase& c, bool count_padding,
                             c10::optional<int64_t> divisor) {
  switch (c.kernel.size()) {
    case 1:
      return at::avg_pool1d(x, c.kernel, c.stride, c.padding, c.ceil_mode, count_padding);
    case 2:
      return at::avg_pool2d(x, c.kernel, c.stride, c.padding, c.ceil_mode, count_padding, divisor);
    default:
      return at::avg_pool3d(x, c.kernel, c.stride, c.padding, c.ceil_mode, count_padding, divisor);
  }
}

// The result's parameters are those of the input in the first round: every second average of an even number of codes is
// a tie then, and only the same order of float operations breaks all of them like LibTorch.
TEST_P(Pooling, AveragesEqualLibTorchTiesIncluded) {
  for (const at::ScalarType type : {at::kQUInt8, at::kQInt8}) {
    for (PoolCase c : chosen_and_random(30, 22)) {  // up to eight forms in five layouts: about 3,000 comparisons
      c.dilation.assign(c.kernel.size(), 1);
      for (const double scale : {0.0173, 0.0091}) {
        for (const bool count_padding : {false, true}) {
          for (const c10::optional<int64_t> divisor : {c10::optional<int64_t>(), c10::optional<int64_t>(3)}) {
            if (divisor && c.kernel.size() == 1) continue;
            for_all_layouts(random_codes(c.input, 0.0173, 7, type), [&](const at::Tensor& x, bool batched) {
              const auto y = run_kernel("avg_pool", {x, c.kernel, c.stride, c.padding, c.ceil_mode, count_padding,
                                                     divisor, scale, int64_t{-3 + 20 * (type == at::kQUInt8)}})
                                 .toTensor();
              const auto want =
                  at::quantize_per_tensor(average_reference(x.dequantize().contiguous(), c, count_padding, divisor),
                                          scale, y.q_zero_point(), type);
              ASSERT_EQ(y.sizes(), want.sizes()) << x.sizes();
              EXPECT_TRUE(at::equal(y.int_repr().contiguous(), want.int_repr().contiguous()))
                  << x.sizes() << c.kernel << count_padding << divisor.value_or(0);
              if (c.has_one_layout) expect_channels_last_if(y, x, batched);
            });
          }
        }
      }
    }
  }
}

at::Tensor adaptive_reference(const at::Tensor& x, const List& size) {
  switch (size.size()) {
    case 1:
      return at::adaptive_avg_pool1d(x, size);
    case 2:
      return at::adaptive_avg_pool2d(x, size);
    default:
      return at::adaptive_avg_pool3d(x, size);
  }
}

/// How many codes differ, none by more than one.
double share_of_neighbours(const at::Tensor& got, const at::Tensor& want) {
  const auto difference = (got.int_repr().to(at::kInt) - want.int_repr().to(at::kInt)).abs();
  EXPECT_LE(difference.max().item<int>(), 1);
  return difference.to(at::kDouble).mean().item<double>();
}

TEST_P(Pooling, AdaptiveAveragesEqualLibTorch) {
  for (const at::ScalarType type : {at::kQUInt8, at::kQInt8}) {
    for (const auto& [input, size] : std::vector<std::pair<List, List>>{{{2, 37, 13, 17}, {7, 7}},
                                                                        {{1, 20, 7, 7}, {1, 3}},
                                                                        {{2, 5, 3, 4}, {6, 4}},
                                                                        {{2, 5, 8, 4}, {2, 0}},
                                                                        {{2, 19, 31}, {8}},
                                                                        {{2, 6, 5, 6, 7}, {2, 3, 3}}}) {
      for_all_layouts(random_codes(input, 0.0173, 7, type), [&, &size = size](const at::Tensor& x, bool) {
        for (const double scale : {0.0173, 0.0091}) {
          const auto y = run_kernel("adaptive_avg_pool", {x, size, scale, 3}).toTensor();
          const auto want =
              at::quantize_per_tensor(adaptive_reference(x.dequantize().contiguous(), size), scale, 3, type);
          ASSERT_EQ(y.sizes(), want.sizes()) << x.sizes();
          EXPECT_TRUE(at::equal(y.int_repr().contiguous(), want.int_repr().contiguous())) << x.sizes() << size;
        }
      });
    }
    const auto x = random_codes({1, 4, 6, 8}, 0.1, 7, type);
    const auto y = run_kernel("adaptive_avg_pool", {x, List{-1, 2}, 0.1, 7}).toTensor();
    EXPECT_EQ(y.sizes(), at::IntArrayRef({1, 4, 6, 2}));
  }
}

TEST_P(Pooling, OneAveragePerChannelIsAMean) {
  for (const auto& input : std::vector<List>{{8, 512, 7, 7}, {4, 1280, 49}, {3, 100, 4, 5, 6}}) {
    for_all_layouts(random_codes(input, 0.0173, 7, at::kQUInt8), [&](const at::Tensor& x, bool batched) {
      const List one(input.size() - 2, 1);
      const auto y = run_kernel("adaptive_avg_pool", {x, one, 0.00231, 3}).toTensor();
      const auto want =
          at::quantize_per_tensor(adaptive_reference(x.dequantize().contiguous(), one), 0.00231, 3, at::kQUInt8);
      ASSERT_EQ(y.sizes(), want.sizes());
      EXPECT_LE(share_of_neighbours(y, want), 0.001) << x.sizes();
    });
  }
}

TEST_P(Pooling, MeansOverAnyDimensions) {
  // The ratio of the scales is no fraction of small numbers, so that ties are rare.
  const double out_scale = 0.00413171;
  for (const at::ScalarType type : {at::kQUInt8, at::kQInt8}) {
    const int64_t middle = type == at::kQUInt8 ? 120 : 0;
    for (const auto& [input, dims] : std::vector<std::pair<List, List>>{{{4, 67, 8, 4}, {2, 3}},
                                                                        {{4, 67, 8, 4}, {-1, -2}},
                                                                        {{4, 67, 8, 4}, {1}},
                                                                        {{4, 67, 8, 4}, {0, 3}},
                                                                        {{4, 67, 8, 4}, {1, 3}},
                                                                        {{4, 67, 8, 4}, {0}},
                                                                        {{4, 67, 8, 4}, {}},
                                                                        {{2, 3000, 70}, {2}},
                                                                        {{2, 70, 600}, {1}},
                                                                        {{2, 9, 5, 6, 7}, {2, 3, 4}},
                                                                        {{5, 1, 9}, {1}},
                                                                        {{7}, {0}}}) {
      for (const bool keep : {false, true}) {
        const auto check = [&, &dims = dims](const at::Tensor& x, bool) {
          const auto mean = dims.empty() ? x.dequantize().mean() : x.dequantize().mean(dims, keep);
          const auto want = at::quantize_per_tensor(mean, out_scale, middle, type);
          const auto y = run_kernel("mean", {x, dims, keep, out_scale, middle}).toTensor();
          if (!dims.empty()) {
            ASSERT_EQ(y.sizes(), want.sizes()) << x.sizes() << dims;
          }
          EXPECT_LE(share_of_neighbours(y.reshape(want.sizes()), want), 0.001) << x.sizes() << dims;
        };
        const auto x = random_codes(input, 0.0217, middle, type);
        check(x, true);
        if (input.size() > 2) check(channels_last(x, true), true);
        check(random_codes(input, 0.0217, middle, type).transpose(0, -1).contiguous().transpose(0, -1), true);
      }
    }
  }
}

TEST_P(Pooling, FloatMeansAreThoseOfTheCodes) {
  for (const at::ScalarType type : {at::kQUInt8, at::kQInt8}) {
    const int64_t zero_point = type == at::kQUInt8 ? 7 : -3;
    for_all_layouts(random_codes({2, 70, 9, 9}, 0.0173, zero_point, type), [&](const at::Tensor& x, bool batched) {
      const at::Tensor exact = x.dequantize().to(at::kDouble).mean({-2, -1}, true);
      const auto y = run_kernel("adaptive_avg_pool_float", {x, List{1, 1}}).toTensor();
      ASSERT_EQ(y.sizes(), exact.sizes());
      EXPECT_TRUE(at::allclose(y.to(at::kDouble), exact, 1e-6, 1e-7)) << x.sizes();
      const auto mean = run_kernel("mean_float", {x, List{-1, -2}, false}).toTensor();
      EXPECT_TRUE(at::equal(mean, y.squeeze(-1).squeeze(-1)));
      const auto larger = run_kernel("adaptive_avg_pool_float", {x, List{3, 2}}).toTensor();
      EXPECT_TRUE(at::allclose(larger, at::adaptive_avg_pool2d(x.dequantize(), {3, 2}), 1e-6, 1e-6));
    });
  }
  const auto nothing = at::_empty_affine_quantized({2, 0}, at::TensorOptions(at::kQUInt8), 0.1, 0);
  EXPECT_TRUE(run_kernel("mean_float", {nothing, List{1}, false}).toTensor().isnan().all().item<bool>());
}

TEST(PixelConv, EqualsTheConvolution) {
  for (const auto& input : std::vector<List>{{1, 70, 1, 1}, {3, 70, 1, 1}, {1, 70, 4, 5}}) {
    const at::Tensor x = at::randn(input), w = at::randn({33, 70, 1, 1}), b = at::randn({33});
    for (const auto& bias : {c10::IValue(b), c10::IValue()}) {
      const auto y = run_kernel("pixel_conv", {x, w, bias}).toTensor();
      const auto want = at::conv2d(x, w, bias.isNone() ? c10::optional<at::Tensor>() : b);
      ASSERT_EQ(y.sizes(), want.sizes());
      EXPECT_TRUE(at::allclose(y, want, 1e-4, 1e-4)) << input;
    }
  }
  EXPECT_THROW(run_kernel("pixel_conv", {at::randn({1, 3, 1, 1}), at::randn({2, 4, 1, 1}), c10::IValue()}), c10::Error);
}

TEST_P(Pooling, MeansOfExactSumsAreExact) {
  // Powers of two: float sums are exact, so every code must be equal.
  const auto x = random_codes({3, 37, 8, 4}, 0.25, 77, at::kQUInt8);
  for (const auto& dims : std::vector<List>{{2, 3}, {1}, {0, 3}}) {
    const auto want = at::quantize_per_tensor(x.dequantize().mean(dims), 0.0625, 60, at::kQUInt8);
    EXPECT_TRUE(at::equal(run_kernel("mean", {x, dims, false, 0.0625, 60}).toTensor().int_repr(), want.int_repr()));
  }
}

at::Tensor upsample_reference(const at::Tensor& x, const List& size) {
  switch (size.size()) {
    case 1:
      return at::upsample_nearest1d(x, size);
    case 2:
      return at::upsample_nearest2d(x, size);
    default:
      return at::upsample_nearest3d(x, size);
  }
}

TEST_P(Pooling, NearestUpsamplingEqualsLibTorch) {
  for (const auto& [input, size] : std::vector<std::pair<List, List>>{{{2, 5, 7, 9}, {14, 18}},
                                                                      {{2, 70, 7, 9}, {5, 31}},
                                                                      {{1, 3, 1, 1}, {4, 1}},
                                                                      {{2, 5, 7}, {17}},
                                                                      {{1, 4, 3, 4, 5}, {6, 5, 7}}}) {
    for_all_layouts(random_codes(input, 0.1, 7, at::kQInt8), [&, &size = size](const at::Tensor& x, bool batched) {
      const auto y = run_kernel("upsample_nearest", {x, size}).toTensor();
      const at::Tensor values = x.dequantize().contiguous();
      const at::Tensor batch = batched ? values : values.unsqueeze(0);
      const at::Tensor all = upsample_reference(batch, size), want = batched ? all : all[0];
      ASSERT_EQ(y.sizes(), want.sizes());
      EXPECT_TRUE(at::equal(y.dequantize().contiguous(), want.contiguous())) << x.sizes() << size;
      expect_channels_last_if(y, x, batched);
    });
  }
}

TEST(PoolingErrors, SayWhatWasWrong) {
  const auto x = random_codes({1, 3, 8, 8}, 0.1, 7, at::kQUInt8);
  const auto empty = random_codes({1, 3, 0, 8}, 0.1, 7, at::kQUInt8);
  const List one = {1, 1}, two = {2, 2}, none = {}, zero = {0, 0};
  const auto max_fails = [](at::Tensor y, List k, List s, List p, List d) {
    EXPECT_THROW(run_kernel("max_pool", {y, k, s, p, d, false}), c10::Error) << k << s << p << d;
  };
  max_fails(x, zero, one, zero, one);
  max_fails(x, two, zero, zero, one);
  max_fails(x, two, two, {2, 2}, one);
  max_fails(x, two, two, {-1, 0}, one);
  max_fails(x, two, two, zero, zero);
  max_fails(x, none, none, none, none);
  max_fails(x, {2, 2, 2, 2}, two, zero, one);
  max_fails(x, two, {2}, zero, one);
  max_fails(x, two, two, {0}, one);
  max_fails(x, {9, 9}, one, zero, one);
  max_fails(x, two, two, zero, {100, 1});
  max_fails(x, {int64_t{1} << 40, 1}, one, zero, one);
  max_fails(x, {int64_t{1} << 30, 1}, one, {int64_t{1} << 29, 0}, {int64_t{1} << 30, 1});
  max_fails(empty, two, two, zero, one);
  max_fails(at::ones({1, 3, 8, 8}), two, two, zero, one);
  max_fails(x[0][0], two, two, zero, one);
  const auto avg = [](at::Tensor y, c10::optional<int64_t> divisor, double scale, int64_t zero_point) {
    return run_kernel("avg_pool", {y, List{2, 2}, List{}, List{0, 0}, false, true, divisor, scale, zero_point});
  };
  EXPECT_THROW(avg(x, 0, 0.1, 0), c10::Error);
  EXPECT_THROW(avg(x, {}, -1.0, 0), c10::Error);
  EXPECT_THROW(avg(x, {}, 0.1, -1), c10::Error);
  EXPECT_NO_THROW(avg(x, -3, 0.1, 0));
  EXPECT_THROW(run_kernel("adaptive_avg_pool", {x, List{-2, 1}, 0.1, 0}), c10::Error);
  EXPECT_THROW(run_kernel("adaptive_avg_pool", {x, List{1, 1, 1, 1}, 0.1, 0}), c10::Error);
  EXPECT_THROW(run_kernel("adaptive_avg_pool", {empty, List{1, 1}, 0.1, 0}), c10::Error);
  EXPECT_THROW(run_kernel("upsample_nearest", {x, List{0, 1}}), c10::Error);
  EXPECT_THROW(run_kernel("upsample_nearest", {x, List{4}}), c10::Error);
  EXPECT_THROW(run_kernel("mean", {x, List{4}, false, 0.1, 0}), c10::Error);
  EXPECT_THROW(run_kernel("mean", {x, List{1, -3}, false, 0.1, 0}), c10::Error);
  EXPECT_EQ(run_kernel("mean", {empty, List{2}, false, 0.1, 5}).toTensor().int_repr().sum().item<int64_t>(), 0);
}

}  // namespace
}  // namespace tsquant::testing
