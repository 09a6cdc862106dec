// tsquant::lstm against aten::lstm.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <sstream>

#include "kernel_call.h"

namespace tsquant::testing::lstm {
namespace {

struct Case {
  int64_t steps, batch, features, units, layers;
  bool both, batch_first;
};

class Lstm : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    at::manual_seed(3);
    const Case& c = GetParam();
    const int64_t directions = c.both ? 2 : 1;
    for (int64_t layer = 0; layer < c.layers; ++layer) {
      for (int64_t d = 0; d < directions; ++d) {
        const int64_t features = layer == 0 ? c.features : c.units * directions;
        weights_.push_back(codes(at::randn({4 * c.units, features})));
        weights_.push_back(at::randn({4 * c.units, c.units}).mul(0.4).to(at::kHalf));
        weights_.push_back(at::randn({4 * c.units}));
        weights_.push_back(at::randn({4 * c.units}));
      }
    }
    x_ = at::randn({c.batch_first ? c.batch : c.steps, c.batch_first ? c.steps : c.batch, c.features});
    for (int i = 0; i < 2; ++i) states_.push_back(at::randn({c.layers * directions, c.batch, c.units}));
  }

  static at::Tensor codes(const at::Tensor& weight) {
    const at::Tensor scales = weight.abs().amax(1) / 127;
    return at::quantize_per_channel(weight, scales, at::zeros({weight.size(0)}, at::kLong), 0, at::kQInt8);
  }

  c10::IValue packed() const {
    const Case& c = GetParam();
    return run_kernel("lstm_pack", {weights_, c.layers, c.both, c.batch_first});
  }

  std::vector<at::Tensor> run(const c10::IValue& params) const {
    std::vector<at::Tensor> results;
    const auto tuple = run_kernel_results("lstm", {x_, states_, params});
    for (const auto& value : tuple) results.push_back(value.toTensor());
    return results;
  }

  std::vector<at::Tensor> expected() const {
    std::vector<at::Tensor> floats;
    for (const at::Tensor& w : weights_) floats.push_back(w.is_quantized() ? w.dequantize() : w.to(at::kFloat));
    const Case& c = GetParam();
    const auto [y, h, cell] = at::lstm(x_, states_, floats, true, c.layers, 0.0, false, c.both, c.batch_first);
    return {y, h, cell};
  }

  std::vector<at::Tensor> weights_, states_;
  at::Tensor x_;
};

TEST_P(Lstm, ComputesWhatTheFloatOperatorComputes) {
  const auto before = states_[1].clone();
  const auto params = packed();
  for (int call = 0; call < 2; ++call) {
    const auto actual = run(params), wanted = expected();
    for (size_t i = 0; i < 3; ++i) {
      ASSERT_EQ(actual[i].sizes(), wanted[i].sizes());
      EXPECT_EQ(actual[i].strides(), wanted[i].strides()) << i;
      EXPECT_TRUE(at::allclose(actual[i], wanted[i], 1e-5, 1e-5)) << (actual[i] - wanted[i]).abs().max();
    }
  }
  EXPECT_TRUE(at::equal(states_[1], before)) << "the caller's state was written";
}

TEST_P(Lstm, FilesHoldTheWeightsAsTheyWereGiven) {
  const auto params = packed();
  const auto results = run(params);
  torch::jit::Module module("m");
  module.register_attribute("packed", params.type(), params);
  std::stringstream stream;
  module.save(stream);
  const auto loaded = torch::jit::load(stream).attr("packed");
  EXPECT_TRUE(at::equal(run(loaded)[0], results[0]));
}

TEST_P(Lstm, SaturatedGatesAreNoNan) {
  x_.mul_(1e6);
  const auto actual = run(packed());
  EXPECT_TRUE(at::allclose(actual[0], expected()[0], 1e-5, 1e-5));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Lstm,
                         ::testing::Values(Case{7, 1, 5, 8, 1, false, false}, Case{5, 3, 6, 24, 1, true, true},
                                           Case{4, 4, 3, 16, 2, true, false}, Case{1, 6, 4, 128, 3, false, true}),
                         [](const auto& info) {
                           return fmt::format("{}x{}_units_{}_layers_{}", info.param.steps, info.param.batch,
                                              info.param.units, info.param.layers);
                         });

TEST(LstmParams, WhatDoesNotFitIsRefused) {
  const auto pack = [](const std::vector<int64_t>& hidden, int64_t layers) {
    const std::vector<at::Tensor> weights{at::ones({32, 3}), at::ones(hidden), at::ones({32}), at::ones({32})};
    return run_kernel("lstm_pack", {weights, layers, false, false});
  };
  EXPECT_ANY_THROW(pack({32, 8}, 2));
  EXPECT_ANY_THROW(pack({32, 7}, 1));
  EXPECT_ANY_THROW(pack({28, 7}, 1));
  const auto params = pack({32, 8}, 1);
  const auto run = [&](const at::Tensor& x, const at::Tensor& state) {
    run_kernel_results("lstm", {x, std::vector<at::Tensor>{state, state}, params});
  };
  EXPECT_NO_THROW(run(at::ones({2, 1, 3}), at::ones({1, 1, 8})));
  EXPECT_ANY_THROW(run(at::ones({2, 1, 4}), at::ones({1, 1, 8})));
  EXPECT_ANY_THROW(run(at::ones({2, 1, 3}), at::ones({1, 2, 8})));
  EXPECT_ANY_THROW(run(at::ones({0, 1, 3}), at::ones({1, 1, 8})));
  EXPECT_ANY_THROW(run(at::ones({2, 3}), at::ones({1, 1, 8})));
  EXPECT_ANY_THROW(run(at::ones({2, 1, 3}).to(at::kDouble), at::ones({1, 1, 8})));
}

}  // namespace
}  // namespace tsquant::testing::lstm
