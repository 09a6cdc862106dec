#include <gtest/gtest.h>
#include <torch/script.h>

#include <sstream>

#include "kernel_call.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

struct LinearCase {
  std::vector<int64_t> input;
  int64_t out;
  int64_t zero_point;
};
std::ostream& operator<<(std::ostream& out, const LinearCase& c) { return out << c.input << " -> " << c.out; }

class Linear : public ::testing::TestWithParam<LinearCase> {
 protected:
  void SetUp() override {
    torch::manual_seed(5);
    const auto& c = GetParam();
    x_ = at::_make_per_tensor_quantized_tensor(at::randint(0, 256, c.input, at::kByte), 0.0625, c.zero_point);
    weight_ = at::randint(-127, 128, {c.out, c.input.back()}, at::kChar);
    scales_ = at::pow(2.0, -at::randint(4, 7, {c.out}, at::kFloat));
    bias_ = at::randint(-4096, 4096, {c.out}, at::kFloat) * 0.0625 * scales_;
    const auto w = weight_.to(at::kDouble) * scales_.to(at::kDouble).unsqueeze(1);
    expected_ = at::linear(x_.dequantize().to(at::kDouble), w, bias_.to(at::kDouble)).to(at::kFloat);
  }
  c10::IValue packed(c10::IValue low = {}) {
    return run_kernel("linear_pack", {weight_, scales_, bias_, low, c10::IValue()});
  }
  at::Tensor x_, weight_, scales_, bias_, expected_;
};
INSTANTIATE_TEST_SUITE_P(Shapes, Linear,
                         ::testing::Values(LinearCase{{1, 512}, 1000, 0}, LinearCase{{5, 64}, 10, 128},
                                           LinearCase{{2, 17, 48}, 96, 120}, LinearCase{{3, 27}, 31, 9},
                                           LinearCase{{197, 32}, 65, 3}, LinearCase{{16}, 4, 0}));

TEST_P(Linear, CodesEqualFloatLinearThenQuantize) {
  const auto y = run_kernel("linear", {x_, packed(), 4.0, 90}).toTensor();
  const auto want = at::quantize_per_tensor(expected_, 4.0, 90, at::kQUInt8);
  ASSERT_EQ(y.sizes(), want.sizes());
  EXPECT_TRUE(at::equal(y.int_repr(), want.int_repr()));
}

TEST_P(Linear, FusedReluAndFloatResult) {
  const auto y = run_kernel("linear_float", {x_, packed(0.0)}).toTensor();
  EXPECT_TRUE(at::allclose(y, expected_.relu(), 1e-6, 1e-4));
  EXPECT_LT(expected_.min().item<float>(), 0);
}

TEST(LinearParams, WrongFeatureCountIsRefused) {
  const auto params = run_kernel(
      "linear_pack", {at::ones({4, 8}, at::kChar), at::ones({1}), c10::IValue(), c10::IValue(), c10::IValue()});
  const auto x = at::quantize_per_tensor(at::zeros({2, 7}), 1.0, 0, at::kQUInt8);
  try {
    run_kernel("linear_float", {x, params});
    FAIL() << "no error";
  } catch (const c10::Error& e) {
    EXPECT_NE(std::string(e.what_without_backtrace()).find("expects 8 features"), std::string::npos);
  }
}

TEST(PackedParams, SurviveSavingAndLoading) {
  torch::manual_seed(2);
  ConvCase c = {"", {1, 3, 12, 12}, 16, {3, 3}, {2, 2}, {1, 1}, {1, 1}};
  const ConvData d = make_data(c);
  const auto conv = pack(c, d, 0.0, 6.0);
  const auto linear = run_kernel("linear_pack", {at::randint(-9, 9, {5, 16}, at::kChar), at::full({5}, 0.5),
                                                 at::randn({5}), c10::IValue(), c10::IValue()});
  torch::jit::Module module("m");
  module.register_attribute("conv", conv.type(), conv);
  module.register_attribute("linear", linear.type(), linear);
  auto graph = std::make_shared<torch::jit::Graph>();
  auto* self = graph->addInput("self")->setType(module.type());
  auto* x = graph->addInput("x");
  const auto constant = [&](const c10::IValue& v) { return graph->insertConstant(v); };
  auto* y = graph->insert(c10::Symbol::fromQualString("tsquant::conv"),
                          {x, graph->insertGetAttr(self, "conv"), constant(0.125), constant(3)});
  auto* z = graph->insert(c10::Symbol::fromQualString("tsquant::mean"),
                          {y, constant(std::vector<int64_t>{2, 3}), constant(false), constant(0.125), constant(3)});
  graph->registerOutput(
      graph->insert(c10::Symbol::fromQualString("tsquant::linear_float"), {z, graph->insertGetAttr(self, "linear")}));
  module.type()->addMethod(module._ivalue()->compilation_unit()->create_function("m.forward", graph));
  std::stringstream file;
  module.save(file);
  auto copy = torch::jit::load(file);
  const auto a = module.forward({d.x}).toTensor(), b = copy.forward({d.x}).toTensor();
  EXPECT_TRUE(at::equal(a, b));
  EXPECT_GT(a.abs().max().item<float>(), 0);
}

}  // namespace
}  // namespace tsquant::testing
