#include <gtest/gtest.h>

#include "graph/node_lists.h"
#include "support/support.h"
#include "tsquant/openvino_quantizer.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant::testing {
namespace {

constexpr int64_t kInput = 24, kHidden = 32;

/// A bidirectional network of one layer with `gates` gates per unit.
std::vector<std::pair<std::string, at::Tensor>> weights(int64_t gates) {
  at::manual_seed(3);
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const std::string suffix : {"", "_reverse"}) {
    tensors.emplace_back("w_ih" + suffix, at::randn({gates * kHidden, kInput}) * 0.15);
    tensors.emplace_back("w_hh" + suffix, at::randn({gates * kHidden, kHidden}) * 0.15);
    tensors.emplace_back("b_ih" + suffix, at::randn({gates * kHidden}) * 0.1);
    tensors.emplace_back("b_hh" + suffix, at::randn({gates * kHidden}) * 0.1);
  }
  return tensors;
}

const char* kParams =
    "[self.w_ih, self.w_hh, self.b_ih, self.b_hh, self.w_ih_reverse, self.w_hh_reverse, self.b_ih_reverse, "
    "self.b_hh_reverse]";

torch::jit::Module lstm() {
  const auto source = std::string(R"(
def forward(self, x):
    h = torch.zeros([2, x.size(1), 32])
    y, hn, cn = torch.lstm(x, [h, h], )") +
                      kParams + ", True, 1, 0.0, False, True, False)\n    return y, hn\n";
  return define(source, weights(4));
}

torch::jit::Module gru() {
  const auto source = std::string(R"(
def forward(self, x):
    h = torch.zeros([2, x.size(1), 32])
    y, hn = torch.gru(x, h, )") +
                      kParams + ", True, 1, 0.0, False, True, False)\n    return y, hn\n";
  return define(source, weights(3));
}

torch::jit::Module cell() {
  return define(R"(
def forward(self, x):
    h = torch.zeros([x.size(1), 32])
    c = torch.zeros([x.size(1), 32])
    for i in range(x.size(0)):
        h, c = torch.lstm_cell(x[i], [h, c], self.w_ih, self.w_hh, self.b_ih, self.b_hh)
    return h, c
)",
                weights(4));
}

at::Tensor sequence() {
  at::manual_seed(4);
  return at::randn({5, 3, kInput});
}

QuantizedModel quantized(const torch::jit::Module& module, OutputForm form,
                         const OpenVINOQuantizerOptions& options = {}) {
  auto model = Model::from(module);
  OpenVINOQuantizer quantizer(options);
  QuantizePt2eOptions flow;
  flow.form = form;
  flow.batchwise_statistics = false;  // dimension 0 is time
  return quantize_pt2e(model, quantizer, Dataset::from_tensors({sequence()}), flow);
}

at::Tensor first_output(const Model& model) {
  return model.run({{sequence()}, {}}).toTuple()->elements()[0].toTensor();
}

int64_t count(const QuantizedModel& result, const std::string& kind) {
  const auto& records = result.report.quantizers;
  return std::count_if(records.begin(), records.end(), [&](const auto& record) { return record.kind == kind; });
}

class Recurrent : public ::testing::TestWithParam<OutputForm> {};

INSTANTIATE_TEST_SUITE_P(Forms, Recurrent,
                         ::testing::Values(OutputForm::kReference, OutputForm::kDecomposed, OutputForm::kFakeQuantize,
                                           OutputForm::kLowered));

TEST_P(Recurrent, WeightMatricesAndInputAreQuantized) {
  for (const auto& module : {lstm(), gru()}) {
    const auto result = quantized(module, GetParam());
    EXPECT_EQ(count(result, "weight"), 4);
    EXPECT_EQ(count(result, "activation"), 1);
    const auto expected = first_output(Model::from(module)), got = first_output(result.model);
    EXPECT_FALSE(at::equal(got, expected));
    EXPECT_LT(((got - expected).norm() / expected.norm()).item<double>(), 0.03);
    // Weights are stored as bytes, except where fake quantization keeps floats.
    if (GetParam() != OutputForm::kFakeQuantize) {
      EXPECT_LT(result.report.quantized_bytes, result.report.float_bytes * 0.55);
    }
  }
}

TEST_P(Recurrent, CellsInALoopAreQuantized) {
  const auto result = quantized(cell(), GetParam());
  EXPECT_EQ(count(result, "weight"), 2);
  const auto expected = first_output(Model::from(cell())), got = first_output(result.model);
  EXPECT_FALSE(at::equal(got, expected));
  EXPECT_LT(((got - expected).norm() / expected.norm()).item<double>(), 0.03);
}

/// Embeddings and rectified features are not centred; the preset is for integer operators.
TEST(RecurrentOptions, InputIsAsymmetricUnlessTheUserSaysOtherwise) {
  const auto model = Model::from(lstm());
  const GraphView view(model);
  const auto input_mode = [&](const OpenVINOQuantizerOptions& options) {
    const auto points = OpenVINOQuantizer(options).annotate(view).points;
    return std::find_if(points.begin(), points.end(), [](const auto& p) { return p.kind == PointKind::kActivation; })
        ->spec.mode;
  };
  OpenVINOQuantizerOptions options;
  EXPECT_EQ(input_mode(options), QuantizationScheme::kAsymmetric);
  options.activations_quantization_params.mode = QuantizationScheme::kSymmetric;
  EXPECT_EQ(input_mode(options), QuantizationScheme::kSymmetric);
  OpenVINOQuantizerOptions fp8;
  fp8.mode = QuantizationMode::kFP8E4M3;
  EXPECT_EQ(input_mode(fp8), QuantizationScheme::kSymmetric);
}

TEST(RecurrentOptions, Decide) {
  OpenVINOQuantizerOptions options;
  options.weights_quantization_params.per_channel = false;
  options.preset = QuantizationPreset::kMixed;
  const auto model = Model::from(lstm());
  const GraphView view(model);
  for (const auto& point : OpenVINOQuantizer(options).annotate(view).points) {
    EXPECT_FALSE(point.spec.per_channel);
    const bool weight = point.kind == PointKind::kWeight;
    EXPECT_EQ(point.spec.mode, weight ? QuantizationScheme::kSymmetric : QuantizationScheme::kAsymmetric);
  }
  options.ignored_scope.types = {"lstm"};
  EXPECT_TRUE(OpenVINOQuantizer(options).annotate(view).points.empty());
}

}  // namespace
}  // namespace tsquant::testing
