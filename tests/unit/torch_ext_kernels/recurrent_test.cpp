// tsquant::lstm and tsquant::gru against LibTorch's operators.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "kernel_call.h"

namespace tsquant::testing::recurrent {
namespace {

struct Case {
  const char* op;
  int64_t steps, batch, features, units, layers;
  bool both, batch_first;
};

class Recurrent : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    at::manual_seed(3);
    const Case& c = GetParam();
    const int64_t directions = c.both ? 2 : 1, gates = is_lstm() ? 4 : 3;
    for (int64_t layer = 0; layer < c.layers; ++layer) {
      for (int64_t d = 0; d < directions; ++d) {
        const int64_t features = layer == 0 ? c.features : c.units * directions;
        weights_.push_back(codes(at::randn({gates * c.units, features}) / std::sqrt(features)));
        weights_.push_back(at::randn({gates * c.units, c.units}).div(std::sqrt(c.units)).to(at::kHalf));
        weights_.push_back(at::randn({gates * c.units}));
        weights_.push_back(at::randn({gates * c.units}));
      }
    }
    x_ = at::randn({c.batch_first ? c.batch : c.steps, c.batch_first ? c.steps : c.batch, c.features});
    for (int i = 0; i < (is_lstm() ? 2 : 1); ++i)
      states_.push_back(at::randn({c.layers * directions, c.batch, c.units}));
  }

  static at::Tensor codes(const at::Tensor& weight) {
    const at::Tensor scales = weight.abs().amax(1) / 127;
    return at::quantize_per_channel(weight, scales, at::zeros({weight.size(0)}, at::kLong), 0, at::kQInt8);
  }

  static bool is_lstm() { return std::string(GetParam().op) == "lstm"; }

  c10::IValue packed() const {
    const Case& c = GetParam();
    return run_kernel(std::string(c.op) + "_pack", {weights_, c.layers, c.both, c.batch_first});
  }

  static std::vector<at::Tensor> run(const c10::IValue& params, const at::Tensor& x,
                                     const std::vector<at::Tensor>& states) {
    const c10::IValue state = is_lstm() ? c10::IValue(states) : c10::IValue(states[0]);
    std::vector<at::Tensor> results;
    for (const auto& value : run_kernel_results(GetParam().op, {x, state, params})) results.push_back(value.toTensor());
    return results;
  }
  std::vector<at::Tensor> run(const c10::IValue& params) const { return run(params, x_, states_); }

  /// By LibTorch's operators, in double.
  std::vector<at::Tensor> expected() const {
    std::vector<at::Tensor> weights, states;
    for (const at::Tensor& w : weights_) weights.push_back((w.is_quantized() ? w.dequantize() : w).to(at::kDouble));
    for (const at::Tensor& s : states_) states.push_back(s.to(at::kDouble));
    const at::Tensor x = x_.to(at::kDouble);
    const Case& c = GetParam();
    at::Tensor y, h, cell;
    if (is_lstm()) {
      std::tie(y, h, cell) = at::lstm(x, states, weights, true, c.layers, 0.0, false, c.both, c.batch_first);
      return {y.to(at::kFloat), h.to(at::kFloat), cell.to(at::kFloat)};
    }
    std::tie(y, h) = at::gru(x, states[0], weights, true, c.layers, 0.0, false, c.both, c.batch_first);
    return {y.to(at::kFloat), h.to(at::kFloat)};
  }

  std::vector<at::Tensor> weights_, states_;
  at::Tensor x_;
};

TEST_P(Recurrent, ComputesWhatTheFloatOperatorComputes) {
  const auto before = states_.back().clone();
  const auto params = packed();
  for (int call = 0; call < 2; ++call) {
    const auto actual = run(params), wanted = expected();
    ASSERT_EQ(actual.size(), wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) {
      ASSERT_EQ(actual[i].sizes(), wanted[i].sizes());
      EXPECT_EQ(actual[i].strides(), wanted[i].strides()) << i;
      EXPECT_TRUE(at::allclose(actual[i], wanted[i], 1e-5, 1e-5)) << (actual[i] - wanted[i]).abs().max();
    }
  }
  EXPECT_TRUE(at::equal(states_.back(), before)) << "the caller's state was written";
}

TEST_P(Recurrent, FilesHoldTheWeightsAsTheyWereGiven) {
  const auto params = packed();
  const auto results = run(params);
  torch::jit::Module module("m");
  module.register_attribute("packed", params.type(), params);
  std::stringstream stream;
  module.save(stream);
  const auto loaded = torch::jit::load(stream).attr("packed");
  EXPECT_TRUE(at::equal(run(loaded)[0], results[0]));
}

TEST_P(Recurrent, SaturatedGatesAreNoNan) {
  x_.mul_(1e6);
  const auto actual = run(packed());
  EXPECT_TRUE(at::allclose(actual[0], expected()[0], 1e-5, 1e-5));
}

TEST_P(Recurrent, ANotANumberStaysOne) {
  x_.select(GetParam().batch_first ? 1 : 0, 0).fill_(std::nan(""));
  EXPECT_TRUE(at::isnan(run(packed())[0].select(GetParam().batch_first ? 1 : 0, 0)).all().item<bool>());
}

// Sums have one order: what else is in the batch changes no bit.
TEST_P(Recurrent, EverySequenceIsComputedAsIfItWereAlone) {
  const auto params = packed();
  const auto all = run(params);
  const int64_t axis = GetParam().batch_first ? 0 : 1;
  for (int64_t i = 0; i < GetParam().batch; ++i) {
    std::vector<at::Tensor> states;
    for (const at::Tensor& state : states_) states.push_back(state.narrow(1, i, 1));
    const auto alone = run(params, x_.narrow(axis, i, 1), states);
    EXPECT_TRUE(at::equal(alone[0], all[0].narrow(axis, i, 1))) << i;
    EXPECT_TRUE(at::equal(alone[1], all[1].narrow(1, i, 1))) << i;
  }
}

// Sequences of different lengths: each has the bits that it has alone, in both directions, and its own last states.
TEST_P(Recurrent, PackedSequencesAreComputedAsIfTheyWereAlone) {
  const Case& c = GetParam();
  const auto layers = run_kernel(std::string(c.op) + "_pack", {weights_, c.layers, c.both, false});
  const at::Tensor x = c.batch_first ? x_.transpose(0, 1) : x_;
  std::vector<int64_t> lengths, sizes;
  for (int64_t i = 0; i < c.batch; ++i) lengths.push_back(std::max<int64_t>(1, c.steps - i / 2));
  std::vector<at::Tensor> rows;
  for (int64_t step = 0; step < c.steps; ++step) {
    sizes.push_back(std::count_if(lengths.begin(), lengths.end(), [&](int64_t length) { return length > step; }));
    rows.push_back(x[step].narrow(0, 0, sizes.back()));
  }
  const c10::IValue states = is_lstm() ? c10::IValue(states_) : c10::IValue(states_[0]);
  const auto packed = run_kernel_results(c.op, {at::cat(rows), at::tensor(sizes), states, layers}, "packed");
  ASSERT_EQ(packed.size(), is_lstm() ? 3U : 2U);
  for (int64_t i = 0; i < c.batch; ++i) {
    std::vector<at::Tensor> own;
    for (const at::Tensor& state : states_) own.push_back(state.narrow(1, i, 1));
    const auto alone = run(layers, x.narrow(1, i, 1).narrow(0, 0, lengths[i]), own);
    int64_t row = i;
    for (int64_t step = 0; step < lengths[i]; row += sizes[step++]) {
      EXPECT_TRUE(at::equal(packed[0].toTensor()[row], alone[0][step][0])) << i << " at " << step;
    }
    for (size_t k = 1; k < packed.size(); ++k) {
      EXPECT_TRUE(at::equal(packed[k].toTensor().narrow(1, i, 1), alone[k])) << i;
    }
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* op : {"lstm", "gru"}) {
    all.insert(all.end(), {{op, 7, 1, 5, 8, 1, false, false},
                           {op, 5, 3, 6, 24, 1, true, true},
                           {op, 30, 2, 6, 8, 2, true, false},
                           {op, 4, 4, 3, 16, 2, true, false},
                           {op, 3, 29, 5, 40, 1, true, true},
                           {op, 1, 6, 4, 128, 3, false, true}});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Shapes, Recurrent, ::testing::ValuesIn(cases()), [](const auto& info) {
  return fmt::format("{}_{}x{}_units_{}_layers_{}", info.param.op, info.param.steps, info.param.batch, info.param.units,
                     info.param.layers);
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

TEST(LstmParams, LayersMustFitTogether) {
  const auto pack = [](int64_t inputs_of_second, int64_t layers) {
    const at::Tensor hidden = at::ones({32, 8}), bias = at::ones({32});
    return run_kernel("lstm_pack", {std::vector<at::Tensor>{at::ones({32, 3}), hidden, bias, bias,
                                                            at::ones({32, inputs_of_second}), hidden, bias, bias},
                                    layers, false, false});
  };
  EXPECT_NO_THROW(pack(8, 2));
  EXPECT_ANY_THROW(pack(64, 2)) << "the second layer would read behind the results of the first";
  EXPECT_ANY_THROW(pack(3, 2));
  EXPECT_ANY_THROW(pack(8, std::numeric_limits<int64_t>::max()));
}

TEST(GruParams, WhatDoesNotFitIsRefused) {
  const auto pack = [](int64_t gates) {
    const std::vector<at::Tensor> weights{at::ones({gates, 3}), at::ones({gates, 8}), at::ones({gates}),
                                          at::ones({gates})};
    return run_kernel("gru_pack", {weights, 1, false, false});
  };
  EXPECT_ANY_THROW(pack(32));
  const auto params = pack(24);
  EXPECT_NO_THROW(run_kernel_results("gru", {at::ones({2, 1, 3}), at::ones({1, 1, 8}), params}));
  EXPECT_ANY_THROW(run_kernel_results("gru", {at::ones({2, 1, 3}), at::ones({1, 2, 8}), params}));
  EXPECT_ANY_THROW(run_kernel_results("gru", {at::ones({2, 1, 2}), at::ones({1, 1, 8}), params}));
}

TEST(LstmParams, PackedSequencesThatDoNotFitAreRefused) {
  const std::vector<at::Tensor> weights{at::ones({32, 3}), at::ones({32, 8}), at::ones({32}), at::ones({32})};
  const auto params = run_kernel("lstm_pack", {weights, 1, false, false});
  const auto run_with = [&](const at::Tensor& data, const at::Tensor& sizes) {
    const std::vector<at::Tensor> states(2, at::ones({1, 2, 8}));
    run_kernel_results("lstm", {data, sizes, states, params}, "packed");
  };
  const auto run = [&](const at::Tensor& data, const std::vector<int64_t>& sizes) {
    run_with(data, at::tensor(sizes));
  };
  const at::Tensor data = at::ones({3, 3});
  EXPECT_NO_THROW(run(data, {2, 1}));
  EXPECT_ANY_THROW(run(data, {1, 2})) << "the longest is not the first";
  EXPECT_ANY_THROW(run(data, {2, 2})) << "reads behind the data";
  EXPECT_ANY_THROW(run(data, {2, 1, 0}));
  EXPECT_ANY_THROW(run(data, {4, -1}));
  EXPECT_ANY_THROW(run(data, {3})) << "there are two states";
  EXPECT_ANY_THROW(run_with(data, at::tensor({2, 1}, at::kInt)));
  EXPECT_ANY_THROW(run(data, {}));
  EXPECT_ANY_THROW(run(at::ones({3, 4}), {2, 1}));
  EXPECT_ANY_THROW(run(data.unsqueeze(0), {2, 1}));
}

class RecurrentCell : public ::testing::TestWithParam<const char*> {};

// A loop over a cell gives the bits that the layer gives.
TEST_P(RecurrentCell, StepsAreThoseOfTheLayer) {
  at::manual_seed(4);
  const std::string op = GetParam();
  const bool is_lstm = op == "lstm";
  const int64_t rows = (is_lstm ? 4 : 3) * 16;
  const std::vector<at::Tensor> weights{at::randn({rows, 5}), at::randn({rows, 16}) * 0.2, at::randn({rows}),
                                        at::randn({rows})};
  const auto params = run_kernel(op + "_pack", {weights, 1, false, false});
  const at::Tensor x = at::randn({6, 3, 5});
  at::Tensor hidden = at::randn({3, 16}), cell = at::randn({3, 16});
  const auto states = [&](const at::Tensor& h, const at::Tensor& c) {
    return is_lstm ? c10::IValue(std::vector<at::Tensor>{h, c}) : c10::IValue(h);
  };
  const auto layer = run_kernel_results(op, {x, states(hidden.unsqueeze(0), cell.unsqueeze(0)), params});
  for (int64_t step = 0; step < x.size(0); ++step) {
    const auto results = run_kernel_results(op + "_cell", {x[step], states(hidden, cell), params});
    ASSERT_EQ(results.size(), is_lstm ? 2U : 1U);
    hidden = results[0].toTensor();
    if (is_lstm) cell = results[1].toTensor();
    EXPECT_TRUE(at::equal(hidden, layer[0].toTensor()[step])) << step;
  }
  if (is_lstm) EXPECT_TRUE(at::equal(cell, layer[2].toTensor()[0]));
}

TEST_P(RecurrentCell, WhatDoesNotFitIsRefused) {
  const std::string op = GetParam();
  const int64_t rows = (op == "lstm" ? 4 : 3) * 8;
  const at::Tensor hidden = at::ones({rows, 8}), bias = at::ones({rows});
  const auto pack = [&](int64_t layers, bool both, bool batch_first) {
    std::vector<at::Tensor> weights;
    for (int64_t i = 0; i < layers * (both ? 2 : 1); ++i) weights.insert(weights.end(), {hidden, hidden, bias, bias});
    return run_kernel(op + "_pack", {weights, layers, both, batch_first});
  };
  const auto run = [&](const c10::IValue& params, const at::Tensor& x, const at::Tensor& state) {
    const auto states = op == "lstm" ? c10::IValue(std::vector<at::Tensor>{state, state}) : c10::IValue(state);
    run_kernel_results(op + "_cell", {x, states, params});
  };
  const at::Tensor x = at::ones({2, 8});
  EXPECT_NO_THROW(run(pack(1, false, false), x, x));
  EXPECT_ANY_THROW(run(pack(2, false, false), x, x));
  EXPECT_ANY_THROW(run(pack(1, true, false), x, x));
  EXPECT_ANY_THROW(run(pack(1, false, true), x, x));
  EXPECT_ANY_THROW(run(pack(1, false, false), x.unsqueeze(0), x));
  EXPECT_ANY_THROW(run(pack(1, false, false), x, x.unsqueeze(0)));
  EXPECT_ANY_THROW(run(pack(1, false, false), at::ones({3, 8}), x));
}

INSTANTIATE_TEST_SUITE_P(Operators, RecurrentCell, ::testing::Values("lstm", "gru"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace tsquant::testing::recurrent
