#include "compression/ordered_gptq.h"

#include <gtest/gtest.h>

#include "compression/round_to_nearest.h"
#include "compression/scale_search.h"
#include "correlated_layer.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

DampedFactor factor_of(const at::Tensor& hessian, bool act_order = true, double damping = 0.01) {
  DampingOptions options;
  options.damping = damping;
  options.act_order = act_order;
  return damped_factor(hessian, options);
}

TEST(OrderedGptq, MakesOutputsBetterInEveryFormat) {
  const CorrelatedLayer layer(10, 64);
  const auto factor = factor_of(layer.hessian);
  for (const auto& spec : every_spec()) {
    SCOPED_TRACE(to_string(spec.format));
    const auto start = search_scales(layer.weight, spec, layer.hessian.diagonal().contiguous());
    const auto result = ordered_gptq(layer.weight, start, factor);
    expect_valid(result);
    EXPECT_TRUE(at::equal(result.qparams.scale, start.qparams.scale));
    EXPECT_TRUE(at::equal(result.qparams.zero_point, start.qparams.zero_point));
    EXPECT_LT(layer.objective(decompress(result)), 0.9 * layer.objective(decompress(start)));
  }
}

/// GPTQ as its paper has it: after each column the inverse of what is left of H gives the best change of the weights
/// that are left, computed anew.
at::Tensor by_definition(const at::Tensor& weight, const CompressedWeight& start, const at::Tensor& damped,
                         const at::Tensor& order) {
  auto w = weight.to(at::kDouble).clone();
  const auto scale = start.qparams.scale.reshape({weight.size(0), -1});
  auto values = at::empty_like(w);
  for (int64_t i = 0; i < order.numel(); ++i) {
    const auto left = order.narrow(0, i, order.numel() - i);
    const auto inverse = at::linalg_inv(damped.to(at::kDouble).index_select(0, left).index_select(1, left));
    const int64_t column = order[i].item<int64_t>(), group = column / start.qparams.group_size;
    const auto s = scale.select(1, group).to(at::kDouble);
    const auto code = at::round(w.select(1, column) / s).clamp(start.qparams.quant_min, start.qparams.quant_max);
    values.select(1, column).copy_(code * s);
    const auto error = (w.select(1, column) - code * s) / inverse[0][0];
    w.index_add_(1, left, -at::ger(error, inverse[0]));
    w.select(1, column).copy_(values.select(1, column));
  }
  return values.to(at::kFloat);
}

TEST(OrderedGptq, IsThePapersMethodForEveryOrderAndBlockSize) {
  const CorrelatedLayer layer(6, 24);
  const auto start = round_to_nearest(layer.weight, group_spec(Format::kInt4, 8));
  for (const bool act_order : {true, false}) {
    const auto factor = factor_of(layer.hessian, act_order);
    const auto expected = by_definition(layer.weight, start, damped_hessian(layer.hessian, 0.01), factor.order);
    for (const int64_t block_size : {1, 7, 24, 128}) {
      const auto values = decompress(ordered_gptq(layer.weight, start, factor, block_size));
      EXPECT_TRUE(at::allclose(values, expected, 1e-5, 1e-6)) << block_size;
    }
  }
}

TEST(OrderedGptq, OrderAndDampingChangeTheCodes) {
  const CorrelatedLayer layer(10, 64);
  const auto start = round_to_nearest(layer.weight, group_spec(Format::kInt3, 32));
  const auto with = [&](bool act_order, double damping) {
    return ordered_gptq(layer.weight, start, factor_of(layer.hessian, act_order, damping)).codes;
  };
  const auto codes = with(true, 0.01);
  EXPECT_FALSE(at::equal(codes, with(false, 0.01)));
  EXPECT_FALSE(at::equal(codes, with(true, 1)));
  // With nothing but damping, columns do not know one another.
  EXPECT_TRUE(at::equal(ordered_gptq(layer.weight, start, factor_of(at::eye(64))).codes, start.codes));
}

TEST(OrderedGptq, ThreadsDoNotMatter) {
  const CorrelatedLayer layer(300, 48, 200);
  const auto start = round_to_nearest(layer.weight, group_spec(Format::kInt2, 16, true));
  const auto result_on = [&](int threads) {
    return on_threads(threads, [&] { return ordered_gptq(layer.weight, start, factor_of(layer.hessian), 16); });
  };
  EXPECT_TRUE(same_bits(result_on(1), result_on(3)));
}

TEST(OrderedGptq, RefusesWhatDoesNotFit) {
  const CorrelatedLayer layer(4, 32);
  const auto start = round_to_nearest(layer.weight, group_spec(Format::kInt4, 16));
  const auto factor = factor_of(layer.hessian);
  const auto message_of = [&](const at::Tensor& weight, const CompressedWeight& given, const DampedFactor& by,
                              int64_t block_size) {
    const auto error = thrown_error([&] { ordered_gptq(weight, given, by, block_size); });
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return std::string(error.what());
  };
  EXPECT_NE(message_of(layer.weight, start, factor, 0).find("block_size is 0"), std::string::npos);
  EXPECT_NE(message_of(layer.weight, start, factor_of(at::eye(8)), 8).find("a factor of 8 columns for a weight of 32"),
            std::string::npos);
  EXPECT_NE(message_of(at::ones({4, 16}), start, factor, 8).find("codes of shape [4, 32]"), std::string::npos);
  auto across = group_spec(Format::kInt4, 4);
  across.group_axis = 0;
  EXPECT_NE(message_of(layer.weight, round_to_nearest(layer.weight, across), factor, 8).find("transpose the weight"),
            std::string::npos);
  EXPECT_NE(message_of(layer.weight, round_to_nearest(layer.weight, {}), factor, 8).find("neither those of groups"),
            std::string::npos);
  auto other = start;
  other.qparams.scale = other.qparams.scale.narrow(0, 0, 2);
  EXPECT_NE(message_of(layer.weight, other, factor, 8).find("4 scales and 8 zero points"), std::string::npos);
}

}  // namespace
}  // namespace tsquant::testing
