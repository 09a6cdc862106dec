#include "flows/non_float32_tensors.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/support.h"
#include "tsquant/openvino_quantizer.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant::testing::non_float32_tensors_test {
namespace {

const char* kTwoLayers = R"(
def forward(self, x):
    return torch.linear(torch.relu(torch.linear(x, self.w1)), self.w2)
)";
const char* kDoubleIsland = R"(
def forward(self, x):
    a = torch.relu(torch.linear(x, self.w1))
    return torch.linear(a.double(), self.w2)
)";

torch::jit::Module net(const char* source, c10::ScalarType first, c10::ScalarType second) {
  at::manual_seed(1);
  return define(source, {{"w1", at::randn({16, 8}).to(first)}, {"w2", at::randn({4, 16}).to(second)}});
}

QuantizedModel quantized(const torch::jit::Module& module, c10::ScalarType data,
                         const QuantizePt2eOptions& options = {}) {
  at::manual_seed(2);
  auto model = Model::from(module);
  OpenVINOQuantizer quantizer;
  return quantize_pt2e(model, quantizer, Dataset::from_tensors({at::randn({5, 8}).to(data)}), options);
}

std::string unsupported(const torch::jit::Module& module, c10::ScalarType data) {
  try {
    quantized(module, data);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupportedModel) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

class OtherTypes : public ::testing::TestWithParam<std::pair<c10::ScalarType, std::string>> {};

TEST_P(OtherTypes, AreNamedWhenNothingElseIsThere) {
  const auto& [type, name] = GetParam();
  const auto message = unsupported(net(kTwoLayers, type, type), type);
  EXPECT_NE(message.find("its tensors are " + name), std::string::npos) << message;
  EXPECT_NE(message.find(".float()"), std::string::npos) << message;
}

TEST_P(OtherTypes, StayAsTheyAreWhenAnEmptyResultIsAllowed) {
  const auto type = GetParam().first;
  QuantizePt2eOptions options;
  options.allow_empty = true;
  const auto result = quantized(net(kTwoLayers, type, type), type, options);
  EXPECT_TRUE(result.report.quantizers.empty());
  EXPECT_EQ(result.model.run(result.probe).toTensor().scalar_type(), type);
}

INSTANTIATE_TEST_SUITE_P(FloatTypes, OtherTypes,
                         ::testing::Values(std::make_pair(c10::kDouble, "float64"),
                                           std::make_pair(c10::kBFloat16, "bfloat16")),
                         [](const auto& info) { return info.param.second; });

TEST(FloatTypes, OneLayerStaysInFloatAndTheReportSaysWhy) {
  for (const auto form : {OutputForm::kReference, OutputForm::kFakeQuantize}) {
    QuantizePt2eOptions options;
    options.form = form;
    const auto result = quantized(net(kDoubleIsland, c10::kFloat, c10::kDouble), c10::kFloat, options);
    ASSERT_EQ(result.report.quantizers.size(), 2u) << "input and weight of the first layer";
    for (const auto& record : result.report.nodes) {
      if (record.type != "linear") continue;
      const bool first = record.name == "/linear/0";
      EXPECT_EQ(record.quantized, first) << record.name;
      if (!first) {
        EXPECT_EQ(record.code, "not_float32");
        EXPECT_NE(record.reason.find("float64"), std::string::npos) << record.reason;
      }
    }
    const auto& warnings = result.report.warnings;
    EXPECT_TRUE(std::any_of(warnings.begin(), warnings.end(), [](const auto& warning) {
      return warning.find("float64 tensors stay in float") != std::string::npos;
    }));
  }
}

TEST(FloatTypes, AModelThatDoesNotRunIsNotTheSamplesFault) {
  // float16 has no matrix product on the CPU; float64 parameters do not take float32 samples.
  const auto half = unsupported(net(kTwoLayers, c10::kHalf, c10::kHalf), c10::kHalf);
  EXPECT_NE(half.find("the model has float16 parameters"), std::string::npos) << half;
  const auto mixed = unsupported(net(kTwoLayers, c10::kDouble, c10::kDouble), c10::kFloat);
  EXPECT_NE(mixed.find("the model has float64 parameters"), std::string::npos) << mixed;
  try {
    quantized(net(kTwoLayers, c10::kFloat, c10::kFloat), c10::kDouble);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataset) << "the sample is to blame: " << error.what();
  }
}

}  // namespace
}  // namespace tsquant::testing::non_float32_tensors_test
