// Corrected biases of a small residual network against NNCF's quantize_pt2e.
#include "algorithms/fast_bias_correction.h"

#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "algorithms/channel_mean.h"
#include "graph/params.h"
#include "passes/passes.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

using nlohmann::json;

Dataset inputs_of(const std::string& model) {
  const auto module = torch::jit::load(data_file("numerics/" + model + ".inputs.pt"));
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < 10; ++i) tensors.push_back(module.attr("x" + std::to_string(i)).toTensor());
  return Dataset::from_tensors(tensors);
}

at::Tensor bias_of(const Model& model, const ViewNode& node) {
  return param_of(model, node.node->input(2))->tensor.clone();
}

TEST(FastBiasCorrection, EqualsNncf) {
  std::ifstream file(data_file("algorithms/fast_bias_correction.json"));
  const json golden = json::parse(file);
  const std::string name = golden["model"];
  const auto data = inputs_of(name);
  for (const auto& record : golden["records"]) {
    Model model = Model::load(data_file("numerics/" + name + ".model.pt"));
    run_passes(model);
    const GraphView view(model, record_shapes(model, data.get(0)));
    OpenVINOQuantizerOptions options;
    if (record["mixed"]) options.preset = QuantizationPreset::kMixed;
    const Annotations annotations = OpenVINOQuantizer(options).annotate(view);
    FastBiasCorrection correction(model, view, annotations);
    CalibrationOptions calibration;
    calibration.extra_taps = correction.taps();
    const auto qparams = compute_qparams(annotations, calibrate(model, view, annotations, data, calibration));
    std::map<std::string, at::Tensor> before;
    for (const auto& node : view.nodes()) {
      if (node.type == "conv2d" || node.type == "linear") before[node.fx_name] = bias_of(model, node);
    }
    BiasCorrectionParameters parameters;
    parameters.threshold = record["threshold"].get<double>();
    parameters.reference = BiasReference::kCollected;
    const auto records = correction.apply(model, qparams, parameters);
    EXPECT_EQ(records.size(), before.size());
    for (const auto& [alias, bias] : before) {
      const std::string what = record["config"].get<std::string>() + " " + alias;
      const at::Tensor after = bias_of(model, *view.find(alias));
      if (!record["biases"].contains(alias)) {
        EXPECT_TRUE(at::equal(after, bias)) << what << " was corrected, the reference was not";
        continue;
      }
      const auto expected = torch::tensor(record["biases"][alias].get<std::vector<double>>()).to(at::kFloat);
      // One weight of the first convolution lies exactly between two codes (half range: 63.5); the last bit of the
      // batch norm folding decides how it is rounded.
      EXPECT_LT(((after - expected).abs().max() / expected.abs().max()).item<double>(), alias == "conv2d" ? 1e-3 : 1e-4)
          << what << "\n"
          << after << expected << bias;
      EXPECT_FALSE(at::equal(after, bias)) << what;
    }
  }
}

TEST(FastBiasCorrection, SimulatedReferenceLeavesExactWeightsAlone) {
  // Weights that are multiples of their scale quantize without error: nothing to correct, although zero padding makes
  // the collected means differ from those of a constant input.
  at::manual_seed(0);
  at::Tensor weight = at::randint(-126, 127, {4, 3, 3, 3}).to(at::kFloat);
  weight.flatten(1).select(1, 0).fill_(127);
  auto module = define("def forward(self, x):\n    return torch.conv2d(x, self.w, self.b, [1, 1], [1, 1])\n",
                       {{"w", weight}, {"b", at::ones({4})}});
  std::vector<at::Tensor> data;
  for (int i = 0; i < 4; ++i) data.push_back(at::rand({1, 3, 6, 6}) * at::arange(6).to(at::kFloat));
  QuantizePt2eOptions options;
  OpenVINOQuantizerOptions placement;
  placement.overflow_fix = OverflowFix::kDisable;
  OpenVINOQuantizer quantizer(placement);
  const auto bias = [&](BiasReference reference) {
    options.bias_correction_params.reference = reference;
    options.bias_correction_params.threshold = 1e9;
    auto model = Model::from(module);
    const auto result = quantize_pt2e(model, quantizer, Dataset::from_tensors(data), options);
    return result.model.module().attr("b").toTensor();
  };
  EXPECT_TRUE(at::allclose(bias(BiasReference::kSimulated), at::ones({4}), 1e-4, 1e-3));
  EXPECT_FALSE(at::allclose(bias(BiasReference::kCollected), at::ones({4}), 1e-4, 1e-3));
}

TEST(ChannelMean, AveragesBatchesAndMerges) {
  ChannelMean all(1), first(1), second(-3);
  const auto a = at::randn({2, 3, 4, 4}), b = at::randn({2, 3, 4, 4}) + 1;
  all.observe(a);
  all.observe(at::empty({0, 3, 4, 4}));
  all.observe(b);
  first.observe(a);
  second.observe(b);
  first.merge(second);
  EXPECT_TRUE(at::allclose(all.mean(), (a.mean({0, 2, 3}) + b.mean({0, 2, 3})) / 2, 1e-5, 1e-6));
  EXPECT_TRUE(at::equal(all.mean(), first.mean()));
  ChannelMean restored(1);
  restored.set_state(all.state());
  EXPECT_TRUE(at::equal(all.mean(), restored.mean()));
  EXPECT_EQ(restored.first_shape(), (std::vector<int64_t>{2, 3, 4, 4}));
}

}  // namespace
}  // namespace tsquant::testing
