#include "evaluation/operator_times.h"

#include <ATen/ThreadLocalState.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <thread>

#include "evaluation/runnable.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

std::vector<OperatorTime> times_of(const torch::jit::Module& module, const at::Tensor& x, int64_t rounds) {
  auto model = module;
  return time_operators([&] { model.forward({x}); }, rounds);
}

TEST(OperatorTimes, CountsTheCallsOfTheModelAndWhatTheyReadAndWrite) {
  const auto module = define(R"(
def forward(self, x):
    x = torch.linear(x, self.w)
    for i in range(3):
        x = torch.sigmoid(x)
    return x
)",
                             {{"w", at::randn({16, 8})}});
  const auto times = times_of(module, at::randn({4, 8}), 5);
  ASSERT_EQ(times.size(), 2u) << "what linear calls in turn is a part of it";
  const auto& linear = times[times[0].name == "aten::linear" ? 0 : 1];
  const auto& sigmoid = times[times[0].name == "aten::linear" ? 1 : 0];
  EXPECT_EQ(linear.name, "aten::linear");
  EXPECT_EQ(linear.shapes, "4x8 16x8");
  EXPECT_EQ(linear.calls, 1);
  EXPECT_DOUBLE_EQ(linear.megabytes, (4 * 8 + 16 * 8 + 4 * 16) * 4e-6);
  EXPECT_FALSE(linear.is_quantized);
  EXPECT_EQ(sigmoid.name, "aten::sigmoid");
  EXPECT_EQ(sigmoid.calls, 3);
  EXPECT_DOUBLE_EQ(sigmoid.megabytes, 3 * 2 * 4 * 16 * 4e-6);
  EXPECT_GE(times[0].ms, times[1].ms);
  EXPECT_GT(times[1].ms, 0);
}

TEST(OperatorTimes, OperatorsOnCodesAreToldFromThoseThatStayedFloat) {
  const auto module = define(R"(
def forward(self, x):
    q = torch.quantize_per_tensor(x, 0.1, 0, 13)
    return torch.relu(q.dequantize())
)");
  for (const auto& time : times_of(module, at::randn({4, 8}), 1)) {
    EXPECT_EQ(time.is_quantized, time.name != "aten::relu") << time.name;
  }
}

// What is timed and what is looked for in a graph go by one rule; names of fake quantizes differ between the two.
TEST(OperatorTimes, FakeQuantizesAreQuantizedOperatorsWhereverTheyAreMet) {
  const auto module =
      define(R"(
def forward(self, x):
    y = torch.fake_quantize_per_tensor_affine(x, 0.1, 0, 0, 255)
    y = torch.fake_quantize_per_channel_affine(y, self.scale, self.zero_point, 1, -128, 127)
    y = torch.fake_quantize_per_tensor_affine(y, self.one, self.zero_point[0], 0, 255)
    return torch.relu(torch._fake_quantize_learnable_per_tensor_affine(y, self.one, self.one, 0, 255, 1.0))
)",
             {{"scale", at::full({8}, 0.1)}, {"zero_point", at::zeros({8}, at::kInt)}, {"one", at::ones({1})}});
  EXPECT_TRUE(has_quantized_operators(module));
  const auto times = times_of(module, at::randn({4, 8}), 1);
  EXPECT_EQ(std::count_if(times.begin(), times.end(), [](const auto& time) { return time.is_quantized; }), 4);
  for (const auto& time : times) {
    EXPECT_EQ(time.is_quantized, time.name.find("quantize") != std::string::npos) << time.name;
  }
}

TEST(OperatorTimes, ObserversThatQuantizeInOneCallAreQuantizedOperators) {
  const auto observers = [] {
    at::Tensor on = at::ones({1}, at::kLong), low = at::zeros({}), high = at::ones({}), scale = at::ones({1}),
               zero = at::zeros({1}, at::kInt);
    at::fused_moving_avg_obs_fake_quant(at::randn({4, 8}), on, on, low, high, scale, zero, 0.01, 0, 255, 0);
  };
  const auto times = time_operators(observers, 1);
  const auto found = std::find_if(times.begin(), times.end(), [](const auto& time) {
    return time.name == "aten::fused_moving_avg_obs_fake_quant";
  });
  ASSERT_NE(found, times.end());
  EXPECT_TRUE(found->is_quantized);
}

TEST(OperatorTimes, OperatorsOfOtherThreadsCount) {
  const auto x = at::randn({4, 8});
  const auto run = [&] {
    at::sigmoid(x);
    std::thread branch([state = at::ThreadLocalState(), &x] {  // as prim::fork starts one
      const at::ThreadLocalStateGuard guard(state);
      at::relu(x);
    });
    branch.join();
  };
  std::map<std::string, double> calls;
  for (const auto& time : time_operators(run, 4)) calls[time.name] = time.calls;
  EXPECT_EQ(calls, (std::map<std::string, double>{{"aten::sigmoid", 1}, {"aten::relu", 1}}));
}

TEST(OperatorTimes, AFailedRunLeavesNothingBehind) {
  EXPECT_THROW(time_operators([]() { throw std::runtime_error("no"); }, 1), std::runtime_error);
  at::relu(at::randn({3}));  // not recorded any more
  const auto module = define("def forward(self, x):\n  return torch.relu(x)\n");
  EXPECT_EQ(times_of(module, at::randn({2}), 1).size(), 1u);
}

}  // namespace
}  // namespace tsquant::testing
