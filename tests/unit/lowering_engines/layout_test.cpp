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
                                                 "y",
                                                 "y.flatten(2).permute(2, 0, 1)",
                                                 "y.flatten(2).permute(2, 0, 1) * 2.0",
                                                 "y.transpose(1, 2)",
                                                 "y[:, 1:]",
                                                 "y[:, 1]",
                                                 "y * float(y[:, 1:].storage_offset())",
                                                 "torch.as_strided(y[:, 1:], [2, 3], [3, 1])",
                                                 "y.chunk(2, 1)[1]",
                                                 "y.split(2, 1)[1].transpose(1, 2)",
                                                 "y.reshape(y.size(0), y.size(1), -1)",
                                                 "y.reshape(y.size(0), y.size(1), -1).transpose(1, 2)",
                                                 "y.unsqueeze(1).squeeze(1).transpose(0, 1)",
                                                 "y.transpose(1, 2).contiguous().view(y.size(0), -1)",
                                                 "torch.add(y, y, out=torch.empty([0]))",
                                                 "torch.add(y, y, out=torch.empty_like(y)).view(-1)",
                                                 "y.reshape(-1).add_(1.0) + y.view(-1)",
                                                 "y.flatten().mul_(2.0) + y.view(-1)"};
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
    // LibTorch refuses to infer a size.
    if (input.size(0) == 0 && (reader.find("-1") != std::string::npos || reader.find("flatten") != std::string::npos)) {
      continue;
    }
    SCOPED_TRACE(input.sizes());
    const at::Tensor want = l.expected(input), got = l.actual(input);
    ASSERT_EQ(got.sizes(), want.sizes());
    EXPECT_EQ(got.is_contiguous(), want.is_contiguous());
    if (want.numel() == 0) continue;
    EXPECT_EQ(got.storage_offset(), want.storage_offset());
    EXPECT_EQ(got.strides(), want.strides());
    // A quantum, times the number that some of the readers multiply by.
    const bool multiplied = reader.find("stride(1)") != std::string::npos || reader.find("offset") != std::string::npos;
    expect_close(got, want, 0.05, multiplied ? 100 : 3);
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

/// A convolution that is read by `reader`, lowered and in reference form.
Lowered image_model(const std::string& engine, const std::string& reader, const at::Tensor& weight,
                    const at::Tensor& probe) {
  const std::string dims = weight.dim() == 5 ? "1, 1, 1" : "1, 1";
  const std::string kind = weight.dim() == 5 ? "conv3d" : "conv2d";
  return lower(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 128, 13))
    y = torch.)" + kind +
                   "(x, torch.dequantize(self.w), None, [" + dims + "], [" + dims + "], [" + dims + R"(], 1)
    y = torch.dequantize(torch.quantize_per_tensor(y, 0.05, 128, 13))
    return )" + reader +
                   "\n",
               {{"w", weight}}, engine, probe);
}

void expect_same_layout(const Lowered& l, const at::Tensor& input) {
  const at::Tensor want = l.expected(input), got = l.actual(input);
  ASSERT_EQ(got.sizes(), want.sizes());
  EXPECT_EQ(got.strides(), want.strides()) << *l.lowered.graph();
  expect_close(got, want, 0.05, 3);
}

// A model or an input that lies channels-last makes every image of the float model lie so.
TEST(Layout, ChannelsLastStaysChannelsLast) {
  torch::manual_seed(5);
  const std::vector<std::string> readers = {"y",
                                            "y.permute(0, 2, 3, 1).view(-1, y.size(1))",
                                            "y * 2.0",
                                            "y.permute(0, 2, 3, 1).view(-1)",
                                            "y[:, 1:]",
                                            "y.flatten(2)",
                                            "y.permute(0, 2, 3, 1)"};
  const at::Tensor weight = quantized_weight({6, 4, 3, 3});
  const at::Tensor x = at::randn({2, 4, 6, 6});
  const auto format = at::MemoryFormat::ChannelsLast;
  for (const std::string& engine : available_engines()) {
    const EngineGuard guard(engine);
    for (const std::string& reader : readers) {
      SCOPED_TRACE(engine + ": " + reader);
      expect_same_layout(image_model(engine, reader, weight, x.contiguous(format)), x.contiguous(format));
      const Lowered l = image_model(engine, reader, weight.contiguous(format), x);
      expect_same_layout(l, x);
      expect_same_layout(l, at::randn({1, 4, 5, 7}));
    }
  }
}

TEST(Layout, ChannelsLastIn3d) {
  torch::manual_seed(6);
  const at::Tensor x = at::randn({2, 4, 5, 3, 6}).contiguous(at::MemoryFormat::ChannelsLast3d);
  for (const std::string& engine : available_engines()) {
    const EngineGuard guard(engine);
    for (const std::string reader : {"y", "y.permute(0, 2, 3, 4, 1)", "y[:, 1:] * 2.0"}) {
      SCOPED_TRACE(engine + ": " + reader);
      expect_same_layout(image_model(engine, reader, quantized_weight({6, 4, 3, 3, 3}), x), x);
    }
  }
}

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
