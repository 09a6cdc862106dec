#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include "graph/node_lists.h"
#include "numerics/qparams.h"
#include "support/support.h"

namespace tsquant::testing::fp8_test {
namespace {

torch::jit::Module net() {
  at::manual_seed(1);
  return define(
      R"(
def forward(self, x):
    y = torch.relu(torch.conv2d(x, self.w1, self.b1, [1, 1], [1, 1]))
    return torch.linear(torch.flatten(torch.adaptive_avg_pool2d(y, [1, 1]), 1), self.w2, self.b2)
)",
      {{"w1", at::randn({8, 3, 3, 3})}, {"b1", at::randn({8})}, {"w2", at::randn({10, 8})}, {"b2", at::randn({10})}});
}

at::Tensor image() {
  at::manual_seed(2);
  return at::randn({2, 3, 12, 12});
}

QuantizedModel quantized(const OpenVINOQuantizerOptions& quantizer_options, const QuantizePt2eOptions& options = {}) {
  auto model = Model::from(net());
  OpenVINOQuantizer quantizer(quantizer_options);
  return quantize_pt2e(model, quantizer, Dataset::from_tensors({image()}), options);
}

OpenVINOQuantizerOptions fp8(QuantizationMode mode) {
  OpenVINOQuantizerOptions options;
  options.mode = mode;
  return options;
}

double error_of(const QuantizedModel& result) {
  const auto expected = Model::from(net()).run({{image()}, {}}).toTensor();
  return ((result.model.run({{image()}, {}}).toTensor() - expected).norm() / expected.norm()).item<double>();
}

std::string message_of(const OpenVINOQuantizerOptions& options) {
  try {
    OpenVINOQuantizer quantizer(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Fp8Mode, ComputesWithFp8Codes) {
  const auto e4m3 = quantized(fp8(QuantizationMode::kFP8E4M3)), e5m2 = quantized(fp8(QuantizationMode::kFP8E5M2));
  EXPECT_GT(error_of(e4m3), 1e-4);
  EXPECT_LT(error_of(e4m3), 0.05);
  EXPECT_LT(error_of(e4m3), error_of(e5m2));  // one mantissa bit more
  EXPECT_LT(error_of(e5m2), 0.15);
  EXPECT_EQ(e4m3.report.quantizers[0].dtype, "f8e4m3");
  EXPECT_EQ(e5m2.report.quantizers[0].dtype, "f8e5m2");
  // Inputs of conv, pooling and linear, and two weights; stored weights are bytes.
  EXPECT_EQ(nodes_of_kind(e4m3.model.graph()->block(), {"tsquant::dequantize_fp8"}).size(), 5u);
  EXPECT_EQ(nodes_of_kind(e4m3.model.graph()->block(), {"tsquant::quantize_fp8"}).size(), 3u);
  EXPECT_LT(e4m3.report.quantized_bytes * 2, e4m3.report.float_bytes);
}

TEST(Fp8Mode, SavesAndLoads) {
  const auto path = temp_dir() + "/fp8.pt";
  const auto result = quantized(fp8(QuantizationMode::kFP8E4M3));
  result.save(path);
  EXPECT_TRUE(
      at::equal(Model::load(path).run({{image()}, {}}).toTensor(), result.model.run({{image()}, {}}).toTensor()));
}

TEST(Fp8Mode, WeightsAndActivationsCanDiffer) {
  auto options = fp8(QuantizationMode::kFP8E4M3);
  options.activations_quantization_params = FP8QuantizationParameters{FP8Type::kE5M2};
  for (const auto& record : quantized(options).report.quantizers) {
    EXPECT_EQ(record.dtype, record.kind == "weight" ? "f8e4m3" : "f8e5m2");
  }
}

TEST(Fp8Mode, UnfoldedWeightsStayFloat) {
  QuantizePt2eOptions options;
  options.fold_quantize = false;
  const auto result = quantized(fp8(QuantizationMode::kFP8E4M3), options);
  EXPECT_EQ(nodes_of_kind(result.model.graph()->block(), {"tsquant::quantize_fp8"}).size(), 5u);
  EXPECT_NEAR(error_of(result), error_of(quantized(fp8(QuantizationMode::kFP8E4M3))), 1e-6);
}

TEST(Fp8Mode, ScaleMapsTheRangeOnTheLargestValue) {
  QuantizationSpec spec;
  spec.format = Format::kF8E4M3;
  const Range range{at::tensor({-2.0F}), at::tensor({4.0F})};
  EXPECT_FLOAT_EQ(choose_qparams(range, spec, PointKind::kActivation).scale.item<float>(), 4.0F / (0.5F * 448));
  spec.per_channel = true;
  spec.format = Format::kF8E5M2;
  const Range channels{at::tensor({-8.0F, -1.0F}), at::tensor({4.0F, 2.0F})};
  const auto q = choose_qparams(channels, spec, PointKind::kActivation);
  EXPECT_FLOAT_EQ(q.scale[0].item<float>(), 8.0F / 57344);
  EXPECT_FLOAT_EQ(q.scale[1].item<float>(), 2.0F / 57344);
}

TEST(Fp8Mode, RefusesWhatItCannotBeCombinedWith) {
  auto options = fp8(QuantizationMode::kFP8E4M3);
  options.preset = QuantizationPreset::kMixed;
  EXPECT_NE(message_of(options).find("the mixed preset cannot be combined with an fp8 mode"), std::string::npos);
  options = fp8(QuantizationMode::kFP8E4M3);
  options.target_device = TargetDevice::kNpu;
  EXPECT_NE(message_of(options).find("target_device"), std::string::npos);
  options = fp8(QuantizationMode::kFP8E4M3);
  options.overflow_fix = OverflowFix::kEnable;
  EXPECT_NE(message_of(options).find("overflow_fix"), std::string::npos);
  options = fp8(QuantizationMode::kFP8E4M3);
  options.quantize_outputs = true;
  EXPECT_NE(message_of(options).find("quantize_outputs"), std::string::npos);
  options = fp8(QuantizationMode::kFP8E4M3);
  options.weights_quantization_params.num_bits = 8;
  EXPECT_NE(message_of(options).find("weights_quantization_params"), std::string::npos);
  options = {};
  options.activations_quantization_params = FP8QuantizationParameters{FP8Type::kE5M2};
  EXPECT_NE(message_of(options).find("destination_type needs an fp8 mode"), std::string::npos);
}

TEST(Fp8Mode, OtherFormsAreRefused) {
  for (const auto form : {OutputForm::kReference, OutputForm::kFakeQuantize, OutputForm::kLowered}) {
    QuantizePt2eOptions options;
    options.form = form;
    try {
      quantized(fp8(QuantizationMode::kFP8E4M3), options);
      ADD_FAILURE() << "form " << static_cast<int>(form) << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find("decomposed"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace tsquant::testing::fp8_test
