// Scripted recurrent modules that keep their state in attributes between calls.
#include <gtest/gtest.h>
#include <torch/script.h>

#include "support/support.h"
#include "tsquant/openvino_quantizer.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant::testing {
namespace {

constexpr int64_t kInput = 12, kHidden = 16, kSteps = 40;

std::vector<std::pair<std::string, at::Tensor>> tensors(int64_t gates) {
  at::manual_seed(11);
  return {{"w_ih", at::randn({gates * kHidden, kInput}) * 0.3},
          {"w_hh", at::randn({gates * kHidden, kHidden}) * 0.3},
          {"b", at::randn({gates * kHidden}) * 0.1},
          {"v", at::randn({3, kHidden}) * 0.5},
          {"h", at::zeros({1, kHidden})},
          {"c", at::zeros({1, kHidden})}};
}

/// The state is assigned by one module and written in place by the other.
torch::jit::Module lstm() {
  return define(R"(
def forward(self, x):
    h, c = torch.lstm_cell(x, [self.h, self.c], self.w_ih, self.w_hh, self.b, self.b)
    self.h = h
    self.c = c
    return torch.linear(torch.relu(h), self.v)
)",
                tensors(4));
}

torch::jit::Module gru() {
  return define(R"(
def forward(self, x):
    h = torch.gru_cell(x, self.h, self.w_ih, self.w_hh, self.b, self.b)
    self.h.copy_(h)
    return torch.linear(torch.relu(h), self.v)
)",
                tensors(3));
}

/// A sound that starts faint and becomes loud: the state of the last steps needs all steps before.
std::vector<at::Tensor> steps(uint64_t seed) {
  at::manual_seed(seed);
  std::vector<at::Tensor> result;
  for (int64_t i = 0; i < kSteps; ++i) {
    result.push_back(at::randn({1, kInput}) * (0.1 + 2.0 * static_cast<double>(i) / kSteps));
  }
  return result;
}

at::Tensor outputs(torch::jit::Module module, const std::vector<at::Tensor>& sequence) {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> result;
  for (const auto& step : sequence) result.push_back(module.forward({step}).toTensor().clone());
  return at::cat(result);
}

QuantizedModel quantized(const torch::jit::Module& module, OutputForm form,
                         const RangeEstimatorParameters& ranges = {}) {
  auto model = Model::from(module);
  OpenVINOQuantizer quantizer;
  QuantizePt2eOptions options;
  options.form = form;
  options.activations_range_estimator_params = ranges;
  return quantize_pt2e(model, quantizer, Dataset::from_tensors(steps(1)), options);
}

const QuantizerRecord& record(const Report& report, const std::string& kind, const std::string& node) {
  for (const auto& found : report.quantizers) {
    if (found.kind == kind && found.node == node) return found;
  }
  throw std::runtime_error(kind + " quantizer of " + node + " is missing");
}

class StatefulModel : public ::testing::TestWithParam<OutputForm> {};

INSTANTIATE_TEST_SUITE_P(Forms, StatefulModel,
                         ::testing::Values(OutputForm::kReference, OutputForm::kDecomposed, OutputForm::kFakeQuantize,
                                           OutputForm::kLowered));

TEST_P(StatefulModel, KeepsItsStateAcrossCallsAndInTheFile) {
  for (const auto& module : {lstm(), gru()}) {
    const auto before = module.attr("h").toTensor().clone();
    const auto result = quantized(module, GetParam());
    // Calibration ran on a copy: neither the caller's module nor the result starts in the middle of a sequence.
    EXPECT_TRUE(at::equal(module.attr("h").toTensor(), before));
    const auto path = temp_dir() + "/stateful.pt";
    result.save(path);
    const auto loaded = torch::jit::load(path);
    EXPECT_TRUE(at::equal(loaded.attr("h").toTensor(), before));
    const auto sequence = steps(2);
    const auto expected = outputs(module.deepcopy(), sequence), got = outputs(loaded.deepcopy(), sequence);
    EXPECT_FALSE(at::equal(got, expected));
    EXPECT_LT(((got - expected).norm() / expected.norm()).item<double>(), 0.05);
    // Without the state the last step would give something else.
    const auto alone = outputs(loaded.deepcopy(), {sequence.back()});
    EXPECT_GT((alone - got.narrow(0, kSteps - 1, 1)).norm().item<double>(), 0.1);
  }
}

/// The largest state comes last, and only when every step follows the one before.
TEST(StatefulCalibration, RunsTheSamplesInOrderAndCoversAllOfThem) {
  auto module = lstm();
  const auto result = quantized(module, OutputForm::kReference);
  float largest = 0;
  auto copy = module.deepcopy();
  for (const auto& step : steps(1)) {
    copy.forward({step});
    largest = std::max(largest, copy.attr("h").toTensor().max().item<float>());
  }
  EXPECT_FLOAT_EQ(static_cast<float>(record(result.report, "activation", "/relu/0").max), largest);
  // An estimator of the user's stays as it is: the mean over the steps is well below their maximum.
  const auto averaged = quantized(module, OutputForm::kReference, RangeEstimatorParameters::mean_minmax());
  EXPECT_LT(record(averaged.report, "activation", "/relu/0").max, 0.95 * largest);
}

/// The same layers without memory: NNCF's default, the mean over the samples.
TEST(StatefulCalibration, ModelsWithoutMemoryKeepTheMean) {
  const auto module =
      define("def forward(self, x):\n    return torch.linear(torch.relu(torch.linear(x, self.w)), self.v)\n",
             {{"w", tensors(1)[0].second}, {"v", tensors(1)[3].second}});
  const auto result = quantized(module, OutputForm::kReference);
  double mean = 0, largest = 0;
  for (const auto& step : steps(1)) {
    const double here = at::linear(step, tensors(1)[0].second).relu().max().item<double>();
    mean += here / kSteps;
    largest = std::max(largest, here);
  }
  EXPECT_NEAR(record(result.report, "activation", "/relu/0").max, mean, 1e-5 * mean);
  EXPECT_LT(mean, 0.8 * largest);
}

}  // namespace
}  // namespace tsquant::testing
