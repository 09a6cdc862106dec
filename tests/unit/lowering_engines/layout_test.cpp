#include <gtest/gtest.h>

#include "lowered.h"
#include "tsquant/engine.h"

// Integer kernels lay images out channels-last. Nothing in a model, and nobody who calls it, may see that.
namespace tsquant::testing {
namespace {

struct LayoutCase {
  const char* name;
  const char* image;  ///< from codes x and weight w to an image y
  std::vector<int64_t> weight, input;
};

const std::vector<LayoutCase>& images() {
  static const std::vector<LayoutCase> cases = {
      {"conv1d", "y = torch.conv1d(x, w, None, [1], [1], [1], 1)", {6, 4, 3}, {2, 4, 12}},
      {"conv2d", "y = torch.conv2d(x, w, None, [1, 1], [1, 1], [1, 1], 1)", {6, 4, 3, 3}, {2, 4, 6, 6}},
      {"conv3d", "y = torch.conv3d(x, w, None, [1, 1, 1], [1, 1, 1], [1, 1, 1], 1)", {6, 4, 3, 3, 3}, {2, 4, 4, 3, 5}},
      {"max_pool",
       "y = torch.max_pool2d(torch.conv2d(x, w, None, [1, 1], [1, 1], [1, 1], 1), [2, 2], [2, 2])",
       {6, 4, 3, 3},
       {2, 4, 6, 6}},
      {"cat",
       "y = torch.conv2d(x, w, None, [1, 1], [1, 1], [1, 1], 1)\n    y = torch.cat([y, y], 1)",
       {6, 4, 3, 3},
       {2, 4, 6, 6}}};
  return cases;
}

/// What a model can do with an image that depends on its memory layout.
const std::vector<std::string>& readers() {
  static const std::vector<std::string> texts = {"y.view(y.size(0), -1)",
                                                 "y.view(y.size(0), y.size(1), -1)",
                                                 "y.reshape(y.size(0), -1)",
                                                 "torch.flatten(y, 1)",
                                                 "torch.unsqueeze(y, 0).view(-1, y.size(1))",
                                                 "torch.as_strided(y, [2, 3], [3, 1])",
                                                 "y.view(y.size(0), -1) * float(y.stride(1))",
                                                 "y.view(y.size(0), -1) * float(1 + int(y.is_contiguous()))",
                                                 "torch.relu(y * 2.0).view(y.size(0), -1)",
                                                 "y"};
  return texts;
}

class Layout : public ::testing::TestWithParam<std::tuple<std::string, size_t, std::string>> {};

TEST_P(Layout, MeansTheSameAsInTheReferenceForm) {
  torch::manual_seed(3);
  const auto& [engine, index, reader] = GetParam();
  const LayoutCase& image = images()[index];
  const std::string source = std::string(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 128, 13))
    w = torch.dequantize(self.w)
    )") + image.image + R"(
    y = torch.dequantize(torch.quantize_per_tensor(y, 0.05, 128, 13))
    return )" + reader + "\n";
  const at::Tensor x = at::randn(image.input);
  const auto l = lower(source, {{"w", quantized_weight(image.weight)}}, engine, x);
  const EngineGuard guard(engine);
  std::vector<at::Tensor> inputs = {x, x.slice(0, 0, 1), at::randn(image.input), at::cat({x, x, x}, 0)};
  if (reader.find("as_strided") == std::string::npos) inputs.push_back(x.slice(0, 0, 0).contiguous());
  for (const at::Tensor& input : inputs) {
    if (input.size(0) == 0 && reader.find("-1") != std::string::npos) continue;  // LibTorch refuses to infer a size
    SCOPED_TRACE(input.sizes());
    const at::Tensor want = l.expected(input), got = l.actual(input);
    ASSERT_EQ(got.sizes(), want.sizes());
    EXPECT_EQ(got.is_contiguous(), want.is_contiguous());
    if (want.numel() == 0) continue;
    EXPECT_EQ(got.strides(), want.strides());
    // A quantum, times the stride that one of the readers multiplies by.
    const double factor = reader.find("stride(1)") == std::string::npos ? 2 : 100;
    EXPECT_LE((got - want).abs().max().item<double>(), 0.0501 * factor) << *l.lowered.graph();
    EXPECT_GE((got - want).abs().lt(1e-4).to(at::kFloat).mean().item<double>(), 0.98);
  }
}

std::string layout_name(const ::testing::TestParamInfo<Layout::ParamType>& info) {
  const auto& [engine, index, reader] = info.param;
  const auto at = std::find(readers().begin(), readers().end(), reader) - readers().begin();
  return engine + "_" + images()[index].name + "_reader" + std::to_string(at);
}

INSTANTIATE_TEST_SUITE_P(Engines, Layout,
                         ::testing::Combine(::testing::ValuesIn(available_engines()), ::testing::Range<size_t>(0, 5),
                                            ::testing::ValuesIn(readers())),
                         layout_name);

TEST(Layout, InputsWithoutABatchDimension) {
  torch::manual_seed(4);
  for (const auto& engine : available_engines()) {
    SCOPED_TRACE(engine);
    const at::Tensor x = at::randn({4, 6, 6});
    const auto l = lower(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 128, 13))
    y = torch.conv2d(x, torch.dequantize(self.w), None, [1, 1], [0, 0], [1, 1], 1)
    y = torch.dequantize(torch.quantize_per_tensor(y, 0.05, 128, 13))
    z = torch.linear(y.view(-1), torch.dequantize(self.v), None)
    return torch.dequantize(torch.quantize_per_tensor(z, 0.5, 128, 13))
)",
                         {{"w", quantized_weight({6, 4, 3, 3})}, {"v", quantized_weight({5, 96})}}, engine, x);
    const EngineGuard guard(engine);
    EXPECT_LE((l.actual(x) - l.expected(x)).abs().max().item<double>(), 0.501);
    EXPECT_EQ(l.kernel_of("conv2d").rfind("Q/DQ", 0) == 0, engine != "tsquant") << l.kernel_of("conv2d");
  }
}

}  // namespace
}  // namespace tsquant::testing
