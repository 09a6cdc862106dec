#include "compression/layer_samples.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

TEST(LayerSamples, HoldTheMeanOfEachSampleOverAllAxesButOne) {
  at::manual_seed(1);
  const auto x = at::randn({2, 3, 8}), y = at::randn({5, 8});
  LayerSamples samples;
  samples.add(x);
  samples.add(y.to(at::kHalf));
  samples.add(at::zeros({0, 8}));
  ASSERT_EQ(samples.size(), 2);
  EXPECT_EQ(samples.channels(), 8);
  EXPECT_EQ(samples.rows(), (std::vector<int64_t>{6, 5}));
  EXPECT_TRUE(at::allclose(samples.means()[0], x.mean(at::IntArrayRef{0, 1}), 1e-6, 1e-7));
  EXPECT_TRUE(at::allclose(samples.means()[1], y.to(at::kHalf).to(at::kFloat).mean(0), 1e-6, 1e-7));

  LayerSamples channels_first;
  channels_first.add(x.permute({0, 2, 1}), 1);
  EXPECT_TRUE(at::equal(channels_first.means()[0], samples.means()[0]));
}

TEST(LayerSamples, TakeEverySoManyFromTheLongestOn) {
  LayerSamples samples;
  const std::vector<int64_t> lengths{3, 9, 5, 9, 1, 7, 2};
  for (size_t i = 0; i < lengths.size(); ++i) samples.add(at::full({lengths[i], 2}, static_cast<double>(i)));
  const auto chosen = [&](int64_t subset_size) {
    const auto x = samples.inputs(subset_size);
    EXPECT_EQ(x.size(0), 2);
    const auto row = x[0].contiguous();
    return std::vector<float>(row.data_ptr<float>(), row.data_ptr<float>() + row.numel());
  };
  EXPECT_EQ(chosen(7), (std::vector<float>{0, 1, 2, 3, 4, 5, 6}));
  // By length: 9 (second), 9 (fourth), 7, 5, 3, 2, 1.
  EXPECT_EQ(chosen(2), (std::vector<float>{1, 2, 4}));
  EXPECT_EQ(chosen(3), (std::vector<float>{1, 5, 0, 4}));
  EXPECT_EQ(chosen(1), (std::vector<float>{1}));
}

TEST(LayerSamples, KnowTheLargestMagnitudesOfAllSamples) {
  LayerSamples samples;
  samples.add(at::tensor({1.0F, -3.0F}).reshape({1, 2}));
  samples.add(at::tensor({-2.0F, 0.5F}).reshape({1, 2}));
  EXPECT_TRUE(at::equal(samples.magnitudes(), at::tensor({2.0F, 3.0F})));
  const auto divided = samples.divided(at::tensor({2.0F, 3.0F}));
  EXPECT_TRUE(at::equal(divided.magnitudes(), at::tensor({1.0F, 1.0F})));
  EXPECT_TRUE(at::equal(samples.magnitudes(), at::tensor({2.0F, 3.0F})));
}

TEST(LayerSamples, ComeBackFromTheirMeans) {
  at::manual_seed(2);
  LayerSamples samples;
  for (int i = 1; i < 6; ++i) samples.add(at::randn({i, 4}));
  const LayerSamples back(samples.means(), samples.rows());
  EXPECT_TRUE(at::equal(back.inputs(2), samples.inputs(2)));
  EXPECT_EQ(LayerSamples(LayerSamples().means(), {}).size(), 0);
}

TEST(LayerSamples, RefuseWhatIsNone) {
  LayerSamples samples;
  EXPECT_EQ(thrown_error([&] { samples.inputs(4); }).code(), ErrorCode::kCalibration);
  EXPECT_EQ(thrown_error([&] { samples.magnitudes(); }).code(), ErrorCode::kCalibration);
  samples.add(at::ones({2, 4}));
  EXPECT_EQ(thrown_error([&] { samples.inputs(0); }).message(), "subset_size is 0");
  EXPECT_EQ(thrown_error([&] { samples.add(at::full({2, 4}, NAN)); }).code(), ErrorCode::kCalibration);
  EXPECT_EQ(thrown_error([&] { samples.add(at::full({2, 4}, INFINITY)); }).code(), ErrorCode::kCalibration);
  EXPECT_EQ(thrown_error([&] {
              samples.add(at::ones({2, 5}));
            }).message(),
            "inputs with 5 channels after inputs with 4");
  EXPECT_EQ(thrown_error([&] { samples.add(at::ones({2, 4}, at::kLong)); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(thrown_error([&] { samples.add(at::ones({2, 4}), 2); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(thrown_error([&] { samples.add(at::ones({})); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(samples.size(), 1);
  EXPECT_EQ(thrown_error([&] { LayerSamples(at::ones({2, 4}), {1}); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(thrown_error([&] { LayerSamples(at::full({1, 4}, NAN), {1}); }).code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tsquant::testing
