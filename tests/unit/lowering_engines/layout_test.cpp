#include <gtest/gtest.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include "lowered.h"
#include "support/support.h"
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

std::string source_of(const LayoutCase& image, const std::string& reader) {
  return std::string(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 128, 13))
    w = torch.dequantize(self.w)
    )") + image.image +
         R"(
    y = torch.dequantize(torch.quantize_per_tensor(y, 0.05, 128, 13))
    return )" +
         reader + "\n";
}

/// What torch.jit.trace makes of a module: no control flow, numbers written out.
Model trace(const torch::jit::Module& module, const std::vector<std::pair<std::string, at::Tensor>>& params,
            const at::Tensor& x) {
  torch::jit::Module traced = define("def unused(self):\n    return 0\n", params);
  torch::jit::Module scripted = module;
  const auto run = [&](torch::jit::Stack inputs) { return torch::jit::Stack{scripted.forward(std::move(inputs))}; };
  const auto nameless = [](const torch::autograd::Variable&) { return std::string(); };
  const auto state = torch::jit::tracer::trace({x}, run, nameless, true, false, &traced, {"x"}).first;
  const c10::QualifiedName name(*traced.type()->name(), "forward");
  traced.type()->addMethod(traced._ivalue()->compilation_unit()->create_function(name, state->graph));
  return Model::from(traced);
}

bool names_any(const std::string& reader, const std::vector<std::string>& words) {
  return std::any_of(words.begin(), words.end(),
                     [&](const std::string& word) { return reader.find(word) != std::string::npos; });
}

/// Expects the values and the place in memory of the reference form.
void expect_same(const Lowered& l, const at::Tensor& input, const std::string& reader) {
  SCOPED_TRACE(input.sizes());
  const at::Tensor want = l.expected(input), got = l.actual(input);
  ASSERT_EQ(got.sizes(), want.sizes());
  EXPECT_EQ(got.is_contiguous(), want.is_contiguous());
  if (want.numel() == 0) return;
  EXPECT_EQ(got.storage_offset(), want.storage_offset());
  EXPECT_EQ(got.strides(), want.strides()) << *l.lowered.graph();
  // A quantum, times the number that some of the readers multiply by.
  expect_close(got, want, 0.05, names_any(reader, {"stride(1)", "offset"}) ? 100 : 2);
}

class Layout : public ::testing::TestWithParam<std::tuple<std::string, size_t, std::string>> {};

TEST_P(Layout, MeansTheSameAsInTheReferenceForm) {
  torch::manual_seed(3);
  const auto& [engine, index, reader] = GetParam();
  const LayoutCase& image = images()[index];
  const at::Tensor x = at::randn(image.input);
  const auto l = lower(source_of(image, reader), {{"w", quantized_weight(image.weight)}}, engine, x);
  const EngineGuard guard(engine);
  for (const at::Tensor& input : {x, x.slice(0, 0, 1), at::randn(image.input), at::cat({x, x, x}, 0)}) {
    expect_same(l, input, reader);
  }
  // LibTorch refuses to infer the size of an empty tensor, and to look behind its end.
  if (!names_any(reader, {"-1", "flatten", "as_strided"})) expect_same(l, x.slice(0, 0, 0).contiguous(), reader);
}

class OwnLayout : public Layout {};

TEST_P(OwnLayout, MeansTheSameInATrace) {
  torch::manual_seed(3);
  const auto& [engine, index, reader] = GetParam();
  const LayoutCase& image = images()[index];
  const std::vector<std::pair<std::string, at::Tensor>> params = {{"w", quantized_weight(image.weight)}};
  const at::Tensor x = at::randn(image.input);
  const auto l = lower(trace(define(source_of(image, reader), params), params, x), engine, x);
  EXPECT_EQ(l.kernel_of("conv" + std::to_string(image.weight.size() - 2) + "d").rfind("tsquant::conv", 0), 0U);
  const EngineGuard guard(engine);
  expect_same(l, x, reader);
  expect_same(l, at::randn(image.input), reader);
}

TEST_P(OwnLayout, MeansTheSameWithoutABatchDimension) {
  torch::manual_seed(3);
  const auto& [engine, index, reader] = GetParam();
  const LayoutCase& image = images()[index];
  if (image.weight.size() == 3 && names_any(reader, {"flatten(2)", "transpose(1, 2)"})) {
    GTEST_SKIP() << "two dimensions";
  }
  const at::Tensor x = at::randn(image.input)[0];
  const auto l = lower(source_of(image, reader), {{"w", quantized_weight(image.weight)}}, engine, x);
  const EngineGuard guard(engine);
  expect_same(l, x, reader);
  expect_same(l, at::randn(x.sizes()), reader);
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
INSTANTIATE_TEST_SUITE_P(Engine, OwnLayout,
                         ::testing::Combine(::testing::Values("tsquant"), ::testing::Range<size_t>(0, 5),
                                            ::testing::ValuesIn(readers())),
                         layout_name);

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
      const std::string source = source_of(images()[1], reader);
      expect_same(lower(source, {{"w", weight}}, engine, x.contiguous(format)), x.contiguous(format), reader);
      const Lowered l = lower(source, {{"w", weight.contiguous(format)}}, engine, x);
      expect_same(l, x, reader);
      expect_same(l, at::randn({1, 4, 5, 7}), reader);
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
      expect_same(lower(source_of(images()[2], reader), {{"w", quantized_weight({6, 4, 3, 3, 3})}}, engine, x), x,
                  reader);
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
