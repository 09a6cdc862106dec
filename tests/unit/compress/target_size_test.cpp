// Bits where they pay: under a target of bytes the errors of all layers together are smaller than with the shares and
// metrics of NNCF that lead to as many bytes.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "compression/layer_error.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/compressed/decompression_chain.h"
#include "support/support.h"
#include "tsquant/compress_weights.h"

namespace tsquant::testing {
namespace {

constexpr int64_t kLayers = 24, kChannels = 64;

/// Layers of different sizes, with weights and inputs that are rounded more or less easily.
Model uneven_layers() {
  at::manual_seed(7);
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  std::string text = "\n    def forward(self, x: Tensor) -> Tensor:\n";
  std::string outputs;
  for (int64_t i = 0; i < kLayers; ++i) {
    const auto gain = at::exp(at::randn({kChannels}) * (0.1 * static_cast<double>(i % 5)));
    auto weight = at::randn({32 + 16 * (i % 7), kChannels}) * at::exp(at::randn({1, kChannels}) * 0.3);
    weight.select(1, i % kChannels).mul_(1 + static_cast<double>(i % 3) * 8);
    tensors.emplace_back(fmt::format("g{}", i), gain);
    tensors.emplace_back(fmt::format("w{}", i), weight);
    text += fmt::format("      y{0} = torch.linear(x * self.g{0}, self.w{0})\n", i);
    outputs += fmt::format("y{}, ", i);
  }
  return Model::from(define(text + "      return torch.cat([" + outputs + "], -1)\n", tensors));
}

/// Rows that have a mean and go together.
std::vector<at::Tensor> correlated_rows() {
  at::manual_seed(8);
  const auto mix = at::randn({kChannels, kChannels}) / 4, mean = at::randn({kChannels}) / 2;
  std::vector<at::Tensor> samples;
  for (int i = 0; i < 32; ++i) samples.push_back(at::mm(at::randn({24, kChannels}), mix) + mean);
  return samples;
}

/// The sum over all layers of the squared error of their outputs, relative to their square.
double sum_of_errors(const Model& compressed) {
  const Model model = uneven_layers();
  const auto rows = at::cat(correlated_rows());
  std::vector<torch::jit::Node*> layers, others;
  const auto find = [](const Model& from, auto& found) {
    for (auto* node : all_nodes(from.graph()->block())) {
      if (node->kind() == c10::aten::linear) found.push_back(node);
    }
  };
  find(model, layers);
  find(compressed, others);
  EXPECT_EQ(layers.size(), others.size());
  double sum = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto weight = param_of(model, layers[i]->input(1))->tensor;
    const auto gain = param_of(model, layers[i]->input(0)->node()->input(1))->tensor;
    const auto found = read_decompression(compressed, others[i]->input(1));
    if (!found) throw std::runtime_error("a layer was not compressed");
    sum += error_by_inputs(weight, decompressed_value(found->weight), (rows * gain).t());
  }
  return sum;
}

CompressedModel compress_uneven(const CompressWeightsOptions& options) {
  Model model = uneven_layers();
  return compress_weights(model, options);
}

CompressWeightsOptions uneven_options() {
  CompressWeightsOptions options;
  options.mode = CompressWeightsMode::kInt4Sym;
  options.group_size = 16;
  options.all_layers = true;
  options.dataset = Dataset::from_tensors(correlated_rows());
  return options;
}

class TargetSize : public ::testing::TestWithParam<SensitivityMetric> {};

INSTANTIATE_TEST_SUITE_P(Metrics, TargetSize,
                         ::testing::Values(SensitivityMetric::kWeightQuantizationError,
                                           SensitivityMetric::kHessianInputActivation,
                                           SensitivityMetric::kMeanActivationVariance,
                                           SensitivityMetric::kMaxActivationVariance,
                                           SensitivityMetric::kMeanActivationMagnitude));

TEST_P(TargetSize, IsMetWithLessErrorThanTheRatioOfThisMetric) {
  for (const double ratio : {0.3, 0.6, 0.9}) {
    auto options = uneven_options();
    options.ratio = ratio;
    options.sensitivity_metric = GetParam();
    const auto by_ratio = compress_uneven(options);
    const auto bytes = static_cast<double>(by_ratio.report.quantized_bytes);
    options = uneven_options();
    options.target_size = bytes / static_cast<double>(by_ratio.report.float_bytes);
    const auto by_size = compress_uneven(options);
    EXPECT_LE(static_cast<double>(by_size.report.quantized_bytes), bytes * (1 + 1e-6));
    EXPECT_GE(static_cast<double>(by_size.report.quantized_bytes), bytes * 0.99);
    EXPECT_LT(sum_of_errors(by_size.model), sum_of_errors(by_ratio.model)) << ratio;
  }
}

}  // namespace
}  // namespace tsquant::testing
