// prepare_qat_pt2e, training with LibTorch, convert_pt2e.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <torch/optim.h>
#include <tsquant/fx/quantize_fx.h>
#include <tsquant/observer_module.h>
#include <tsquant/openvino_quantizer.h>
#include <tsquant/prepare_pt2e.h>
#include <tsquant/tsquant.h>
#include <tsquant/x86_inductor_quantizer.h>
#include <tsquant/xnnpack_quantizer.h>

#include <sstream>

#include "graph/node_lists.h"
#include "support/support.h"
#include "support/thrown_error.h"

namespace tsquant::testing::qat {
namespace {

/// conv + batch norm + relu, conv + batch norm, dropout, linear: as captured in evaluation mode.
torch::jit::Module net() {
  at::manual_seed(1);
  torch::jit::Module module("__torch__.QatNet");
  module.register_attribute("training", c10::BoolType::get(), false);
  const auto parameter = [&](const char* name, const at::Tensor& value) {
    module.register_parameter(name, value, /*is_buffer=*/false);
  };
  parameter("w1", at::randn({8, 3, 3, 3}) * 0.3);
  parameter("w2", at::randn({8, 8, 3, 3}) * 0.2);
  parameter("c2", at::randn({8}) * 0.1);
  for (const char* name : {"g1", "g2"}) parameter(name, at::rand({8}) + 0.5);
  for (const char* name : {"b1", "b2"}) parameter(name, at::randn({8}) * 0.1);
  parameter("w3", at::randn({4, 8}));
  parameter("b3", at::randn({4}));
  for (const char* name : {"m1", "m2"}) module.register_buffer(name, at::randn({8}) * 0.1);
  for (const char* name : {"v1", "v2"}) module.register_buffer(name, at::rand({8}) + 0.5);
  module.define(R"(
def forward(self, x):
    y = torch.conv2d(x, self.w1, None, [1, 1], [1, 1])
    y = torch.relu(torch.batch_norm(y, self.g1, self.b1, self.m1, self.v1, False, 0.1, 1e-5, True))
    z = torch.conv2d(y, self.w2, self.c2, [2, 2], [1, 1])
    z = torch.batch_norm(z, self.g2, self.b2, self.m2, self.v2, False, 0.1, 1e-5, True)
    p = torch.flatten(torch.adaptive_avg_pool2d(z, [1, 1]), 1)
    return torch.linear(torch.dropout(p, 0.5, False), self.w3, self.b3)
)");
  return module;
}

Model model() {
  static const Model captured = Model::from(net());
  return captured.clone();
}

at::Tensor images(int64_t seed = 2) {
  at::manual_seed(static_cast<uint64_t>(seed));
  return at::randn({20, 3, 8, 8});
}

std::unique_ptr<Quantizer> make_quantizer(const std::string& name) {
  if (name == "openvino") return std::make_unique<OpenVINOQuantizer>();
  if (name == "xnnpack") {
    auto quantizer = std::make_unique<XNNPACKQuantizer>();
    quantizer->set_global(get_symmetric_quantization_config(/*is_per_channel=*/true, /*is_qat=*/true));
    return quantizer;
  }
  auto quantizer = std::make_unique<X86InductorQuantizer>();
  quantizer->set_global(get_default_x86_inductor_quantization_config(/*is_qat=*/true));
  return quantizer;
}

torch::jit::Module prepared(const std::string& quantizer = "x86_inductor") {
  return prepare_qat_pt2e(model(), *make_quantizer(quantizer), {{images()}, {}});
}

at::Tensor run(torch::jit::Module& module, const at::Tensor& x) { return module.forward({x}).toTensor(); }

std::vector<at::Tensor> parameters(const torch::jit::Module& module) {
  std::vector<at::Tensor> list;
  for (const auto& parameter : module.parameters()) {
    if (parameter.requires_grad()) list.push_back(parameter);
  }
  return list;
}

/// Distance to the outputs of another network, step by step. No momentum, so that the module is all that there is.
std::vector<double> train(torch::jit::Module& module, int64_t first, int64_t last) {
  torch::optim::SGD optimizer(parameters(module), 0.02);
  std::vector<double> losses;
  for (int64_t step = first; step < last; ++step) {
    const at::Tensor x = images(step % 3 + 10);
    const at::Tensor target = x.mean({2, 3}).matmul(at::ones({3, 4})) * 3 + 1;
    at::manual_seed(static_cast<uint64_t>(step));  // dropout
    optimizer.zero_grad();
    const at::Tensor loss = at::mse_loss(run(module, x), target);
    loss.backward();
    optimizer.step();
    losses.push_back(loss.item<double>());
  }
  return losses;
}

/// Ten steps on one batch.
void train_on(torch::jit::Module& module, const at::Tensor& x) {
  torch::optim::SGD optimizer(parameters(module), 0.02);
  for (int step = 0; step < 10; ++step) {
    optimizer.zero_grad();
    run(module, x).pow(2).mean().backward();
    optimizer.step();
  }
}

torch::jit::Module reloaded(const torch::jit::Module& module) {
  std::stringstream stream;
  module.save(stream);
  return torch::jit::load(stream);
}

QuantizedModel converted(const torch::jit::Module& module) {
  ConvertPt2eOptions options;
  options.form = OutputForm::kReference;
  return convert_pt2e(module, options);
}

at::Tensor tensor(const torch::jit::Module& module, const std::string& name) { return module.attr(name).toTensor(); }

double relative(const at::Tensor& actual, const at::Tensor& expected) {
  return ((actual - expected).norm() / expected.norm()).item<double>();
}

class Qat : public ::testing::TestWithParam<std::string> {};

TEST_P(Qat, WithoutQuantizersItIsTheFloatModel) {
  auto module = prepared(GetParam());
  disable_observer(module);
  disable_fake_quant(module);
  module.eval();
  const at::Tensor expected = model().run({{images()}, {}}).toTensor();
  EXPECT_LT(relative(run(module, images()).detach(), expected), 1e-5);
}

TEST_P(Qat, TrainingConvergesAndConversionComputesWhatWasTrained) {
  auto module = prepared(GetParam());
  const auto losses = train(module, 0, 60);
  EXPECT_LT(losses.back(), losses.front() * 0.6);
  module.eval();
  disable_observer(module);
  const at::Tensor trained = run(module, images(10)).detach();
  const auto result = converted(module);
  // The scales of fused fake quantizes are not quite those of torch.ao's formula, which conversion applies.
  EXPECT_LT(relative(result.model.run({{images(10)}, {}}).toTensor(), trained), 0.05);
  EXPECT_GE(result.report.quantized_count(), 3);
}

TEST_P(Qat, SavingAndLoadingInTheMiddleChangesNothing) {
  auto whole = prepared(GetParam());
  train(whole, 0, 8);
  auto part = prepared(GetParam());
  train(part, 0, 3);
  part = reloaded(part);
  train(part, 3, 8);
  for (const char* name : {"w1", "g1", "m1", "v2", "w3"}) {
    EXPECT_TRUE(at::equal(tensor(whole, name), tensor(part, name))) << name;
  }
  const auto expected = converted(whole).model.run({{images()}, {}}).toTensor();
  EXPECT_TRUE(at::equal(converted(part).model.run({{images()}, {}}).toTensor(), expected));
}

INSTANTIATE_TEST_SUITE_P(Quantizers, Qat, ::testing::Values("openvino", "x86_inductor", "xnnpack"),
                         [](const auto& info) { return info.param; });

// Archives that Python wrote in the middle of training have such parameters.
TEST(QatModule, ParametersThatHadGradientsAreTrainedAsOthers) {
  auto original = net();
  for (at::Tensor parameter : original.parameters()) parameter.set_requires_grad(true);
  X86InductorQuantizer quantizer;
  quantizer.set_global(get_default_x86_inductor_quantization_config(/*is_qat=*/true));
  auto module = prepare_qat_pt2e(Model::from(original), quantizer, {{images()}, {}});
  for (const at::Tensor& parameter : module.parameters()) EXPECT_TRUE(parameter.is_leaf());
  train(module, 0, 2);
  for (const at::Tensor& parameter : original.parameters()) EXPECT_FALSE(parameter.grad().defined());
}

TEST(QatModule, LayersWithNormsAreBlocks) {
  const auto module = prepared();
  EXPECT_TRUE(module.hasattr("conv_bn_0"));
  EXPECT_TRUE(module.hasattr("conv_bn_1"));
  EXPECT_FALSE(module.hasattr("conv_bn_2"));
  EXPECT_TRUE(module.attr("conv_bn_0").toModule().hasattr("weight_fake_quant"));
  EXPECT_TRUE(nodes_of_kind(module.get_method("forward").graph()->block(), {"aten::batch_norm"}).empty());
}

class TransposedQat : public ::testing::TestWithParam<std::pair<int64_t, int64_t>> {};

// torch.ao refuses these; torchao's prepare_qat_pt2e trains them as other convolutions, those without groups.
TEST_P(TransposedQat, ConvolutionsWithNormsAreBlocks) {
  const auto [dims, groups] = GetParam();
  at::manual_seed(7);
  std::vector<int64_t> weight{6, 8 / groups}, image{5, 6};
  weight.resize(2 + dims, 3);
  image.resize(2 + dims, 7);
  const at::Tensor x = at::randn(image);
  torch::jit::Module float_module("__torch__.TransposedNet");
  float_module.register_parameter("w", at::randn(weight), /*is_buffer=*/false);
  for (const char* name : {"b", "g", "c"}) float_module.register_parameter(name, at::rand({8}) + 0.5, false);
  for (const char* name : {"m", "v"}) float_module.register_buffer(name, at::rand({8}) + 0.5);
  float_module.define(fmt::format(R"(
def forward(self, x):
    y = torch.conv_transpose{0}d(x, self.w, self.b, {1}, {2}, {2}, {3}, {2})
    return torch.batch_norm(y, self.g, self.c, self.m, self.v, False, 0.1, 1e-5, True)
)",
                                  dims, std::vector<int64_t>(dims, 2), std::vector<int64_t>(dims, 1), groups));
  const auto value = [&](const char* name) { return float_module.attr(name).toTensor().clone(); };
  const fx::QConfigMapping mapping = fx::get_default_qat_qconfig_mapping("x86");
  auto module = fx::prepare_qat_fx(Model::from(float_module), mapping, {{x}, {}});
  ASSERT_TRUE(module.hasattr("conv_bn_0"));
  EXPECT_TRUE(nodes_of_kind(module.get_method("forward").graph()->block(), {"aten::batch_norm"}).empty());
  auto plain = module.deepcopy();
  disable_fake_quant(plain);
  const at::Tensor y = float_module.deepcopy().forward({x}).toTensor();
  // Batch statistics do not depend on those that run.
  const at::Tensor normed = at::batch_norm(y, value("g"), value("c"), {}, {}, true, 0.1, 1e-5, false);
  EXPECT_LT(relative(run(plain, x).detach(), normed), 1e-3);
  auto untrained = module.deepcopy();
  untrained.eval();
  disable_fake_quant(untrained);
  EXPECT_LT(relative(run(untrained, x).detach(), y), 1e-5);
  train_on(module, x);
  module.eval();
  disable_observer(module);
  const at::Tensor trained = run(module, x).detach();
  const auto result = fx::convert_to_reference_fx(reloaded(module));
  EXPECT_LT(relative(result.model.run({{x}, {}}).toTensor(), trained), 0.03);
  EXPECT_TRUE(nodes_of_kind(result.model.graph()->block(), {"aten::batch_norm"}).empty());
}

INSTANTIATE_TEST_SUITE_P(Shapes, TransposedQat,
                         ::testing::Values(std::make_pair(1, 1), std::make_pair(2, 1), std::make_pair(2, 2),
                                           std::make_pair(3, 1)),
                         [](const auto& info) {
                           return fmt::format("{}d_groups_{}", info.param.first, info.param.second);
                         });

TEST(QatModule, StatisticsOfBatchesMoveWhileTraining) {
  auto module = prepared();
  const at::Tensor before = tensor(module, "m1").clone();
  run(module, images());
  EXPECT_FALSE(at::equal(tensor(module, "m1"), before));

  const at::Tensor moved = tensor(module, "m1").clone();
  freeze_bn_stats(module);
  run(module, images());
  EXPECT_TRUE(at::equal(tensor(module, "m1"), moved));
  update_bn_stats(module);
  run(module, images());
  EXPECT_FALSE(at::equal(tensor(module, "m1"), moved));

  module.eval();
  const at::Tensor trained = tensor(module, "m1").clone();
  run(module, images());
  EXPECT_TRUE(at::equal(tensor(module, "m1"), trained));
}

TEST(QatModule, DropoutFollowsTheMode) {
  auto module = prepared();
  freeze_bn_stats(module);
  run(module, images());
  disable_observer(module);
  const at::Tensor x = images();
  EXPECT_FALSE(at::equal(run(module, x), run(module, x)));
  module.eval();
  EXPECT_TRUE(at::equal(run(module, x), run(module, x)));
}

TEST(QatModule, TheGivenModelStaysAsItWas) {
  auto original = model();
  const at::Tensor weight = tensor(original.module(), "w1").clone(), mean = tensor(original.module(), "m1").clone();
  auto module = prepare_qat_pt2e(original, *make_quantizer("x86_inductor"), {{images()}, {}});
  train(module, 0, 2);
  EXPECT_TRUE(at::equal(tensor(original.module(), "w1"), weight));
  EXPECT_TRUE(at::equal(tensor(original.module(), "m1"), mean));
  EXPECT_FALSE(tensor(original.module(), "w1").requires_grad());
}

TEST(QatModule, AChannelWithoutGainIsNoNan) {
  auto original = model();
  at::NoGradGuard no_grad;
  auto module = prepared();
  tensor(module, "g1").fill_(0);
  EXPECT_TRUE(at::isfinite(run(module, images())).all().item<bool>());
}

TEST(QatModule, ObserversThatWereDisabledTooEarlyAreNamed) {
  auto module = prepared("openvino");
  disable_observer(module);
  try {
    run(module, images());
    FAIL() << "nothing was thrown";
  } catch (const std::exception& error) {
    EXPECT_NE(std::string(error.what()).find("before its observer is disabled"), std::string::npos);
  }
}

// LibTorch's attention layers ask for gradients before they take a fused operator, and divide their weight else.
TEST(QatModule, WithAndWithoutGradientsItIsOneModel) {
  at::manual_seed(3);
  const Model questions = Model::from(define(R"(
def forward(self, x):
    why = ""
    if x.dim() != 2:
        why = "no batch"
    elif torch.is_grad_enabled() and self.weight.requires_grad:
        why = "gradients are wanted"
    if len(why) == 0:
        y = torch.linear(x, self.weight)
        y = y[:, :4] + y[:, 4:]
    else:
        first, second = torch.chunk(self.weight, 2)
        y = torch.linear(x, first) + torch.linear(x, second)
    return torch.linear(torch.relu(y), self.last)
)",
                                             {{"weight", at::randn({8, 6}) * 0.4}, {"last", at::randn({2, 4}) * 0.4}}));
  const at::Tensor x = at::randn({16, 6});
  auto module = prepare_qat_pt2e(questions, *make_quantizer("x86_inductor"), {{x}, {}});
  train_on(module, x);
  module.eval();
  disable_observer(module);
  const at::Tensor trained = run(module, x).detach();
  EXPECT_GT(relative(questions.run({{x}, {}}).toTensor(), trained), 0.05) << "training changes something";
  {
    const at::NoGradGuard no_grad;
    EXPECT_LT(relative(run(module, x), trained), 1e-5);
  }
  EXPECT_LT(relative(converted(module).model.run({{x}, {}}).toTensor(), trained), 0.05);
}

// Weights are known without data.
TEST(QatModule, ThatSawNoDataIsNotConverted) {
  for (const char* quantizer : {"openvino", "x86_inductor", "xnnpack"}) {
    const auto error = thrown_error([&] { converted(prepared(quantizer)); });
    EXPECT_EQ(error.code(), ErrorCode::kCalibration) << quantizer;
    EXPECT_NE(error.message().find("has seen data"), std::string::npos) << error.message();
  }
}

TEST(QatModule, SamplesThatNobodyCountedAreNotReported) {
  auto module = prepared();
  train(module, 0, 4);
  const Report report = converted(module).report;
  EXPECT_EQ(report.samples, -1);
  EXPECT_EQ(report.summary().find("calibration samples"), std::string::npos) << report.summary();
  for (const auto& warning : report.warnings) EXPECT_EQ(warning.find("samples"), std::string::npos) << warning;
  const std::string json = report.to_json();
  EXPECT_NE(json.find("\"samples\": null"), std::string::npos) << json;
  EXPECT_EQ(Report::from_json(json).samples, -1);
}

TEST(QatModule, NormsOfOtherModulesCannotBeFrozen) {
  auto module = net();
  EXPECT_EQ(thrown_error([&] { freeze_bn_stats(module); }).code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tsquant::testing::qat
