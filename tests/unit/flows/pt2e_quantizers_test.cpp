// X86InductorQuantizer and XNNPACKQuantizer from the float model to the quantized one.
#include <gtest/gtest.h>
#include <tsquant/engine.h>
#include <tsquant/prepare_pt2e.h>
#include <tsquant/tsquant.h>
#include <tsquant/x86_inductor_quantizer.h>
#include <tsquant/xnnpack_quantizer.h>

#include <algorithm>

#include "graph/node_lists.h"
#include "support/support.h"

namespace tsquant::testing::pt2e_quantizers_test {
namespace {

torch::jit::Module residual_net() {
  at::manual_seed(5);
  return define(R"(
def forward(self, x):
    y = torch.max_pool2d(torch.relu(torch.conv2d(x, self.w1, self.b1, [1, 1], [1, 1])), [2, 2])
    z = torch.relu(torch.conv2d(y, self.w2, self.b2, [1, 1], [1, 1]) + y)
    z = torch.cat([z, y], 1) * 0.5 + 1.0
    return torch.linear(torch.flatten(torch.adaptive_avg_pool2d(z, [1, 1]), 1), self.w3, self.b3)
)",
                {{"w1", at::randn({8, 3, 3, 3})},
                 {"b1", at::randn({8})},
                 {"w2", at::randn({8, 8, 3, 3}) * 0.3},
                 {"b2", at::randn({8})},
                 {"w3", at::randn({10, 16})},
                 {"b3", at::randn({10})}});
}

std::vector<at::Tensor> images() {
  at::manual_seed(6);
  std::vector<at::Tensor> tensors;
  for (int64_t i = 0; i < 6; ++i) tensors.push_back(at::randn({1, 3, 12, 12}) * (1 + 0.1 * i));
  return tensors;
}

QuantizedModel quantized(Quantizer& quantizer, OutputForm form = OutputForm::kReference) {
  auto model = Model::from(residual_net());
  QuantizePt2eOptions options;
  options.form = form;
  return quantize_pt2e(model, quantizer, Dataset::from_tensors(images()), options);
}

/// Relative to the float model, on data that calibration has seen.
double error_of(const QuantizedModel& result) {
  const auto model = Model::from(residual_net());
  double error = 0;
  for (const auto& x : images()) {
    const auto expected = model.run({{x}, {}}).toTensor(), actual = result.model.run({{x}, {}}).toTensor();
    error = std::max(error, ((actual - expected).norm() / expected.norm()).item<double>());
  }
  return error;
}

size_t count(const QuantizedModel& result, const std::vector<std::string>& kinds) {
  return nodes_of_kind(result.model.graph()->block(), kinds).size();
}

const QuantizerRecord& record_of(const QuantizedModel& result, const std::string& node, int64_t port) {
  for (const auto& record : result.report.quantizers) {
    if (record.node == node && record.input_port == port) return record;
  }
  throw std::out_of_range(node);
}

X86InductorQuantizer x86() {
  X86InductorQuantizer quantizer;
  quantizer.set_global(get_default_x86_inductor_quantization_config());
  return quantizer;
}

XNNPACKQuantizer xnnpack(bool per_channel = true) {
  XNNPACKQuantizer quantizer;
  quantizer.set_global(get_symmetric_quantization_config(per_channel));
  return quantizer;
}

TEST(Pt2eQuantizers, X86IsCloseToFloatInEveryForm) {
  auto quantizer = x86();
  const auto reference = quantized(quantizer);
  EXPECT_LE(error_of(reference), 0.03);
  // Activations: x, relu, max_pool2d, relu_1, cat, the input of linear.
  EXPECT_EQ(reference.report.quantizers.size(), 3u + 6u);
  EXPECT_EQ(count(reference, {"aten::quantize_per_tensor"}), 6u);
  EXPECT_LE(error_of(quantized(quantizer, OutputForm::kDecomposed)), 0.03);
  EXPECT_LE(error_of(quantized(quantizer, OutputForm::kFakeQuantize)), 0.03);
  EXPECT_LE(error_of(quantized(quantizer, OutputForm::kLowered)), 0.05);
}

TEST(Pt2eQuantizers, XnnpackIsCloseToFloatInEveryForm) {
  auto quantizer = xnnpack();
  const auto reference = quantized(quantizer);
  EXPECT_LE(error_of(reference), 0.04);
  EXPECT_LE(error_of(quantized(quantizer, OutputForm::kDecomposed)), 0.04);
  EXPECT_LE(error_of(quantized(quantizer, OutputForm::kFakeQuantize)), 0.04);
  EXPECT_LE(error_of(quantized(quantizer, OutputForm::kLowered)), 0.06);
}

TEST(Pt2eQuantizers, CodesAreThoseOfTheConfiguration) {
  auto quantizer = xnnpack(/*per_channel=*/false);
  const auto result = quantized(quantizer);
  const auto& weight = record_of(result, "/linear/0", 1);
  EXPECT_EQ(weight.quant_min, -127);
  EXPECT_EQ(weight.quant_max, 127);
  ASSERT_EQ(weight.scale.size(), 1u);
  const double largest = residual_net().attr("w3").toTensor().abs().max().item<double>();
  EXPECT_NEAR(weight.scale[0], largest / 127, 1e-6) << "symmetric scale of torch.ao";
  const auto& activation = record_of(result, "x", -1);
  EXPECT_EQ(activation.dtype, "qint8");
  EXPECT_EQ(activation.quant_min, -128);

  auto reduced = X86InductorQuantizer();
  reduced.set_global(get_default_x86_inductor_quantization_config(false, false, /*reduce_range=*/true));
  const auto half = quantized(reduced);
  EXPECT_EQ(record_of(half, "x", -1).dtype, "quint8");
  EXPECT_EQ(record_of(half, "x", -1).quant_max, 127);
  EXPECT_LE(error_of(half), 0.06);
}

// PT2E's operators clamp to the limits of the specification, in every form and engine.
TEST(Pt2eQuantizers, AReducedRangeIsKeptByEveryEngine) {
  X86InductorQuantizer quantizer;
  quantizer.set_global(get_default_x86_inductor_quantization_config(false, false, /*reduce_range=*/true));
  const auto reference = quantized(quantizer);
  const auto far = images()[0] * 3;  // beyond the range: limits decide
  const auto expected = reference.model.run({{far}, {}}).toTensor();
  const auto differs = [&](const at::Tensor& actual) {
    return ((actual - expected).norm() / expected.norm()).item<double>();
  };
  EXPECT_LE(differs(quantized(quantizer, OutputForm::kDecomposed).model.run({{far}, {}}).toTensor()), 1e-5);
  for (const std::string& engine : available_engines()) {
    SCOPED_TRACE(engine);
    auto model = Model::from(residual_net());
    QuantizePt2eOptions options;
    options.form = OutputForm::kLowered;
    options.engine = engine;
    options.cost = LoweringCost::kOff;
    const auto lowered = quantize_pt2e(model, quantizer, Dataset::from_tensors(images()), options);
    const EngineGuard guard(engine);
    EXPECT_LE(differs(lowered.model.run({{far}, {}}).toTensor()), 0.03);
    auto prepared = prepare_pt2e(Model::from(residual_net()), quantizer, {{images()[0]}, {}});
    for (const auto& x : images()) prepared.forward({x});
    ConvertPt2eOptions convert;
    convert.form = OutputForm::kLowered;
    convert.engine = engine;
    convert.cost = LoweringCost::kOff;
    EXPECT_LE(differs(convert_pt2e(prepared, convert).model.run({{far}, {}}).toTensor()), 0.03);
  }
}

TEST(Pt2eQuantizers, NumbersInAdditionsAreStoredAsCodes) {
  auto quantizer = xnnpack();
  const auto result = quantized(quantizer);
  const auto& number = record_of(result, "_tensor_constant_1", -1);
  EXPECT_NEAR(number.scale[0] * static_cast<double>(number.quant_max - number.zero_point[0]), 1.0, 1e-4)
      << "the range of a constant reaches from zero to its value";
}

TEST(Pt2eQuantizers, SharedPlacesHaveOneScale) {
  auto quantizer = xnnpack();
  const auto result = quantized(quantizer);
  const auto& relu = record_of(result, "/relu/0", -1);
  const auto& pool = record_of(result, "/max_pool2d/0", -1);
  const auto& cat = record_of(result, "/cat/0", -1);
  EXPECT_EQ(relu.scale, pool.scale);
  EXPECT_EQ(pool.scale, cat.scale) << "the pooled tensor is an input of cat";
  EXPECT_EQ(relu.zero_point, cat.zero_point);
}

TEST(Pt2eQuantizers, SavedModelComputesTheSame) {
  auto quantizer = xnnpack();
  const auto result = quantized(quantizer);
  const std::string path = temp_dir() + "/model.pt";
  result.save(path);
  const auto x = images().front();
  EXPECT_TRUE(at::equal(Model::load(path).run({{x}, {}}).toTensor(), result.model.run({{x}, {}}).toTensor()));
}

TEST(Pt2eQuantizers, CallersModelIsNotChanged) {
  auto model = Model::from(residual_net());
  const std::string before = model.graph()->toString();
  auto quantizer = xnnpack();
  quantize_pt2e(model, quantizer, Dataset::from_tensors(images()));
  EXPECT_EQ(model.graph()->toString(), before);
  EXPECT_FALSE(model.module().hasattr("_tensor_constant_0"));
}

}  // namespace
}  // namespace tsquant::testing::pt2e_quantizers_test
