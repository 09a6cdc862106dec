#include <gtest/gtest.h>
#include <torch/library.h>

#include "graph/node_lists.h"
#include "lowered.h"
#include "lowering/engines/trial.h"
#include "lowering/lowering.h"
#include "support/support.h"
#include "tsquant/engine.h"
#include "tsquant/error.h"

// What an engine refuses or computes in another way stays as Q/DQ alone.
namespace tsquant::testing {
namespace {

const char* quantized_pool(const char* call) {
  static std::string source;
  source = std::string(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 100, 13))
    y = torch.conv2d(x, torch.dequantize(self.w), None, [1, 1], [1, 1], [1, 1], 1)
    y = torch.dequantize(torch.quantize_per_tensor(y, 0.06, 120, 13))
    y = )") +
           call + R"(
    return torch.dequantize(torch.quantize_per_tensor(y, 0.06, 120, 13))
)";
  return source.c_str();
}

class EveryEngine : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { torch::manual_seed(29); }
};
INSTANTIATE_TEST_SUITE_P(Engines, EveryEngine, ::testing::ValuesIn(available_engines()),
                         [](const auto& info) { return info.param; });

TEST_P(EveryEngine, AveragePoolingMeansWhatItSays) {
  const char* const calls[] = {"torch.avg_pool2d(y, [2, 2], [2, 2], [0, 0], False, True, 3)",
                               "torch.avg_pool2d(y, [3, 3], [2, 2], [1, 1], False, False)",
                               "torch.avg_pool2d(y, [3, 3], [2, 2], [1, 1], True, True)",
                               "torch.avg_pool2d(y, [1, 1], [1, 1])",
                               "torch.avg_pool2d(y, [1, 1], [2, 2])",
                               "torch.max_pool2d(y, [1, 1], [2, 2])",
                               "torch.adaptive_avg_pool2d(y, [3, 2])",
                               "torch.max_pool2d(y, [3, 3], [2, 2], [1, 1], [2, 2], True)"};
  for (const char* call : calls) {
    SCOPED_TRACE(call);
    const at::Tensor x = at::randn({2, 4, 9, 9}) + 0.5;
    const auto l = lower(quantized_pool(call), {{"w", quantized_weight({8, 4, 3, 3})}}, GetParam(), x);
    const EngineGuard guard(GetParam());
    for (const at::Tensor& input : {x, at::randn({1, 4, 9, 9})}) {
      const at::Tensor want = l.expected(input), got = l.actual(input);
      ASSERT_EQ(got.sizes(), want.sizes());
      EXPECT_LE((got - want).abs().max().item<double>(), 0.0601);
    }
    EXPECT_EQ(l.kernel_of("conv2d").rfind("Q/DQ", 0), std::string::npos) << "only the pooling may stay float";
  }
}

TEST_P(EveryEngine, AResidualBranchThatIsAlmostNothing) {
  const at::Tensor x = at::randn({1, 8, 6, 6});
  const auto l = lower(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 128, 13))
    y = torch.dequantize(torch.quantize_per_tensor(x * 1e-9, 1e-9, 128, 13))
    return torch.dequantize(torch.quantize_per_tensor(torch.add(x, y), 0.03, 128, 13))
)",
                       {}, GetParam(), x);
  const EngineGuard guard(GetParam());
  EXPECT_LE((l.actual(x) - l.expected(x)).abs().max().item<double>(), 0.0301);
}

TEST_P(EveryEngine, ThreeDimensionalConvolution) {
  const at::Tensor x = at::randn({1, 4, 5, 5, 5});
  const auto l = lower(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 128, 13))
    y = torch.conv3d(x, torch.dequantize(self.w), None, [1, 1, 1], [1, 1, 1], [1, 1, 1], 1)
    return torch.dequantize(torch.quantize_per_tensor(y, 0.05, 128, 13))
)",
                       {{"w", quantized_weight({8, 4, 3, 3, 3})}}, GetParam(), x);
  const EngineGuard guard(GetParam());
  expect_close(l.actual(x), l.expected(x), 0.05);
}

// A tie of the convolution's own result that the kernel rounds the other way moves the sum by two codes or three.
TEST(Trial, TiesBeforeAResidualAreNoFaultOfTheKernel) {
  const at::Tensor odd = at::arange(120, at::kFloat) * 2 + 1;  // codes whose product lies between two others
  const at::Tensor x = (at::cat({odd, at::full({39880}, 2)}) * 0.1).reshape({1, 1, 40, 1000});
  const auto l = lower(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.1, 0, 13))
    y = torch.conv2d(x, torch.dequantize(self.w))
    y = torch.dequantize(torch.quantize_per_tensor(y, 0.02, 0, 13))
    z = torch.dequantize(torch.quantize_per_tensor(x * 0.0, 0.1, 0, 13))
    return torch.dequantize(torch.quantize_per_tensor(torch.add(z, y), 0.0094, 0, 13))
)",
                       {{"w", at::quantize_per_tensor(at::full({1, 1, 1, 1}, 0.1), 0.1, 0, at::kQInt8)}}, "tsquant", x);
  EXPECT_EQ(l.kinds().count("tsquant::conv_add"), 1u) << *l.lowered.graph();
  EXPECT_GT((l.actual(x) - l.expected(x)).abs().max().item<double>(), 0.0095) << "no tie was rounded the other way";
}

TEST(Trial, WideWeightsAndCodesDoNotSaturateOrStayInFloat) {
  // Pairs of products of the largest codes exceed 16 bits; an engine that adds them there gets Q/DQ instead.
  for (const auto& engine : available_engines()) {
    SCOPED_TRACE(engine);
    const at::Tensor weight = at::_make_per_channel_quantized_tensor(
        at::full({16, 64}, 127, at::kChar), at::full({16}, 0.01, at::kDouble), at::zeros({16}, at::kLong), 0);
    const at::Tensor x = at::full({4, 64}, 7.6);
    const auto l = lower(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 0, 13))
    return torch.dequantize(torch.quantize_per_tensor(torch.linear(x, torch.dequantize(self.w), None), 4.0, 0, 13))
)",
                         {{"w", weight}}, engine, x);
    const EngineGuard guard(engine);
    EXPECT_LE((l.actual(x) - l.expected(x)).abs().max().item<double>(), 4.001);
  }
}

/// Gives an operator of the lowered graph something wrong to compute.
class BrokenKernel : public ::testing::Test {
 protected:
  static constexpr const char* kSource = R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 128, 13))
    y = torch.conv2d(x, torch.dequantize(self.w), None, [1, 1], [1, 1], [1, 1], 1)
    y = torch.dequantize(torch.quantize_per_tensor(y, 0.05, 128, 13))
    z = torch.conv2d(y, torch.dequantize(self.v), None, [1, 1], [1, 1], [1, 1], 1)
    return torch.dequantize(torch.quantize_per_tensor(z, 0.3, 128, 13))
)";

  KeptValues try_broken(const std::string& from, const std::string& to) {
    torch::manual_seed(31);
    const Model reference =
        Model::from(define(kSource, {{"w", quantized_weight({8, 4, 3, 3})}, {"v", quantized_weight({8, 8, 3, 3})}}));
    const Sample probe{{at::randn({1, 4, 6, 6})}, {}};
    Engine engine = engine_named("tsquant");
    for (EngineRow& row : engine.rows) {
      if (row.op == from) row.kernel = to.c_str();
    }
    Model lowered = reference.clone();
    const ReferenceRun run = run_reference(reference, probe);
    const KeptValues none;
    Report report;
    LoweringContext context(lowered, engine, run, none, report);
    unify_activation_types(context);
    lower_convolutions_and_linear(context);
    lower_quantizers(context);
    return try_out(lowered, context, probe);
  }
};

at::Tensor conv_off_by_two(const at::Tensor& x, const c10::IValue& params, double scale, int64_t zero_point) {
  const auto conv = c10::Dispatcher::singleton().findSchemaOrThrow("tsquant::conv", "");
  torch::jit::Stack stack{x, params, scale, zero_point};
  conv.callBoxed(&stack);
  const at::Tensor y = stack.back().toTensor();
  return at::_make_per_tensor_quantized_tensor((y.int_repr().to(at::kInt) + 2).clamp(0, 255).to(at::kByte), scale,
                                               zero_point);
}

void conv_off(const c10::OperatorHandle&, torch::jit::Stack* stack) {
  const auto arguments = torch::jit::pop(*stack, 4);
  stack->push_back(
      conv_off_by_two(arguments[0].toTensor(), arguments[1], arguments[2].toDouble(), arguments[3].toInt()));
}

void conv_fails(const c10::OperatorHandle&, torch::jit::Stack*) { TORCH_CHECK(false, "no kernel for this shape"); }

TORCH_LIBRARY_FRAGMENT(tsquant_test, m) {
  const std::string arguments =
      "(Tensor x, __torch__.torch.classes.tsquant.ConvParams params, float scale, int zero_point) -> Tensor";
  m.def(("conv_off" + arguments).c_str(), torch::CppFunction::makeFromBoxedFunction<&conv_off>());
  m.def(("conv_fails" + arguments).c_str(), torch::CppFunction::makeFromBoxedFunction<&conv_fails>());
}

TEST_F(BrokenKernel, EveryOperatorThatDeviatesIsFoundInOneRun) {
  EXPECT_TRUE(try_broken("none", "").empty());
  const auto found = try_broken("conv2d", "tsquant_test::conv_off");
  ASSERT_EQ(found.size(), 2u);
  for (const auto& [number, reason] : found)
    EXPECT_TRUE(reason.find("up to 2 codes") != std::string::npos || reason.find("up to 3") != std::string::npos)
        << reason;
}

TEST_F(BrokenKernel, AnOperatorThatFailsIsNamedWithItsMessage) {
  const auto found = try_broken("conv2d", "tsquant_test::conv_fails");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(found.begin()->second.find("no kernel for this shape"), std::string::npos) << found.begin()->second;
}

/// While it lives, tsquant::add fails on codes.
class FailingAddition {
 public:
  FailingAddition()
      : library_(torch::Library::IMPL, "tsquant", c10::DispatchKey::CompositeImplicitAutograd, __FILE__, __LINE__) {
    library_.impl("add", torch::CppFunction::makeFromBoxedFunction<&conv_fails>());
  }

 private:
  torch::Library library_;
};

TEST(Trial, HoweverManyOperatorsFailTheOthersStayLowered) {
  constexpr int kAdditions = 20;
  std::string source = R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 100, 13))
    y = torch.conv2d(x, torch.dequantize(self.w), None, [1, 1], [1, 1], [1, 1], 1)
    y = torch.dequantize(torch.quantize_per_tensor(y, 0.06, 120, 13))
)";
  for (int i = 0; i < kAdditions; ++i) {
    source += "    y = torch.dequantize(torch.quantize_per_tensor(y + x, 0.06, 120, 13))\n";
  }
  source += "    return torch.dequantize(torch.quantize_per_tensor(y * x, 0.06, 120, 13))\n";
  at::manual_seed(3);
  const at::Tensor x = at::randn({1, 4, 6, 6}), w = quantized_weight({4, 4, 3, 3});
  const auto count = [](const Lowered& l, const char* kind) {
    return nodes_of_kind(l.lowered.graph()->block(), {kind}).size();
  };
  EXPECT_EQ(count(lower(source, {{"w", w}}, "tsquant", x), "tsquant::add"), static_cast<size_t>(kAdditions - 1))
      << "the convolution computes the first";
  const FailingAddition fails;
  const auto l = lower(source, {{"w", w}}, "tsquant", x);
  EXPECT_EQ(count(l, "tsquant::add"), 0U);
  EXPECT_EQ(count(l, "tsquant::mul"), 1U);
  EXPECT_EQ(count(l, "tsquant::conv") + count(l, "tsquant::conv_add"), 1U);
  expect_close(l.actual(x), l.expected(x), 0.06);
  size_t named = 0, alike = 0;
  for (const auto& node : l.report.nodes) {
    named += node.kernel.find("no kernel for this shape") != std::string::npos ? 1 : 0;
    alike += node.kernel.find("other operators of this kind fail") != std::string::npos ? 1 : 0;
  }
  EXPECT_GT(named, 0U);
  EXPECT_GT(alike, 0U);
}

TEST(Trial, AModelThatRejectsTheSampleIsNotTheEnginesFault) {
  EXPECT_THROW(lower("def forward(self, x):\n    return torch.linear(x, self.w, None)\n", {{"w", at::randn({3, 4})}},
                     "tsquant", at::randn({2, 5})),
               Error);
}

TEST(EngineCheck, AFileStopsUnderTheWrongEngine) {
  const auto engines = available_engines();
  if (std::count(engines.begin(), engines.end(), "qnnpack") == 0) GTEST_SKIP() << "LibTorch has no QNNPACK";
  const at::Tensor x = at::randn({2, 4, 6, 6});
  const auto l = lower(quantized_pool("torch.relu(y)"), {{"w", quantized_weight({8, 4, 3, 3})}}, "qnnpack", x);
  const std::string path = temp_dir() + "/qnnpack.pt";
  {
    const EngineGuard guard("qnnpack");
    l.lowered.save(path);
    EXPECT_NO_THROW(torch::jit::load(path));
  }
  for (const auto& engine : engines) {
    if (engine == "qnnpack" || engine == "tsquant") continue;
    const EngineGuard guard(engine);
    try {
      torch::jit::load(path);
      FAIL() << "loaded under " << engine;
    } catch (const std::exception& e) {
      EXPECT_NE(std::string(e.what()).find("torch.backends.quantized.engine = 'qnnpack'"), std::string::npos)
          << e.what();
    }
  }
}

}  // namespace
}  // namespace tsquant::testing
