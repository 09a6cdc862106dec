// Biases corrected by both algorithms against NNCF's quantize_pt2e.
#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "algorithms/bias_correction.h"
#include "algorithms/fast_bias_correction.h"
#include "graph/params.h"
#include "passes/rewrite_runner.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

using nlohmann::json;

std::string golden_file(const std::string& name) {
  const auto shared = data_file("numerics/" + name);
  return std::filesystem::exists(shared) ? shared : data_file("algorithms/" + name);
}

Dataset inputs_of(const std::string& model) {
  const auto module = torch::jit::load(golden_file(model + ".inputs.pt"));
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < 10; ++i) tensors.push_back(module.attr("x" + std::to_string(i)).toTensor());
  return Dataset::from_tensors(tensors);
}

std::map<std::string, at::Tensor> biases_of(const Model& model, const GraphView& view) {
  std::map<std::string, at::Tensor> biases;
  for (const auto& node : view.nodes()) {
    if (node.type != "conv2d" && node.type != "linear") continue;
    if (const auto bias = param_of(model, node.node->input(2))) biases[node.fx_name] = bias->tensor.clone();
  }
  return biases;
}

/// A weight of conv_resnet's first convolution lies exactly between two codes (half range: 63.5), and the last bit of
/// the batch norm folding decides how it is rounded. Moves such weights by a ten-thousandth of a code towards NNCF's.
void break_ties(Model& model, const GraphView& view, const Annotations& annotations, const QParamTable& qparams,
                const std::vector<int64_t>& codes) {
  for (const auto& point : annotations.points) {
    const auto* node = view.find(point.node);
    if (point.kind != PointKind::kWeight || node->fx_name != "conv2d") continue;
    const auto weight = param_of(model, node->node->input(1))->tensor;
    const auto& q = qparams.at(point.id);
    const auto away = torch::tensor(codes).view_as(weight) - quantize(weight, q).to(at::kLong);
    EXPECT_LE(away.abs().sum().item<int64_t>(), 1);
    set_param(model, node->node, 1, weight + away * 1e-4 * q.scale.view({-1, 1, 1, 1}));
  }
}

/// Runs one configuration; returns the biases before and after, and how many layers the algorithm looked at.
struct Outcome {
  std::map<std::string, at::Tensor> before, after;
  size_t records = 0;
};

Outcome correct(const json& record) {
  const std::string name = record["model"];
  const auto data = inputs_of(name);
  Model model = Model::load(golden_file(name + ".model.pt"));
  run_passes(model);
  const GraphView view(model, record_shapes(model, data.get(0)));
  OpenVINOQuantizerOptions options;
  if (record["mixed"]) options.preset = QuantizationPreset::kMixed;
  const Annotations annotations = OpenVINOQuantizer(options).annotate(view);
  BiasCorrectionParameters parameters;
  parameters.threshold = record["threshold"].get<double>();
  parameters.reference = BiasReference::kCollected;
  FastBiasCorrection fast(model, view, annotations, parameters);
  CalibrationOptions calibration;
  calibration.subset_size = 10;
  if (record["fast"]) calibration.extra_taps = fast.taps();
  const auto qparams = compute_qparams(annotations, calibrate(model, view, annotations, data, calibration));
  if (record.contains("conv2d_codes")) break_ties(model, view, annotations, qparams, record["conv2d_codes"]);
  Outcome outcome;
  outcome.before = biases_of(model, view);
  outcome.records = (record["fast"] ? fast.apply(model, qparams)
                                    : bias_correction(model, view, annotations, qparams, data, parameters, calibration))
                        .size();
  outcome.after = biases_of(model, view);
  return outcome;
}

/// In this model NNCF's accurate algorithm reads the result of a convolution after `add_` has written into it (shifts
/// of exactly 1); what depends on it cannot be compared.
bool spoilt_in_reference(const json& record, const std::string& alias) {
  return record["model"] == "multi_branches_connected_model" && !record["fast"] && alias != "conv2d_1";
}

TEST(BiasGolden, EqualsNncf) {
  std::ifstream file(data_file("algorithms/bias_correction.json"));
  size_t compared = 0;
  const json golden = json::parse(file);
  for (const auto& record : golden["records"]) {
    const Outcome outcome = correct(record);
    EXPECT_EQ(outcome.records, outcome.before.size());
    for (const auto& [alias, bias] : outcome.before) {
      const std::string what =
          record["model"].get<std::string>() + " " + record["config"].get<std::string>() + " " + alias;
      if (spoilt_in_reference(record, alias)) continue;
      const at::Tensor after = outcome.after.at(alias);
      if (!record["biases"].contains(alias)) {
        EXPECT_TRUE(at::equal(after, bias)) << what << " was corrected, the reference was not";
        continue;
      }
      const auto expected = torch::tensor(record["biases"][alias].get<std::vector<double>>()).to(at::kFloat);
      EXPECT_LT(((after - expected).abs().max() / expected.abs().max()).item<double>(), 1e-4)
          << what << "\n"
          << after << expected << bias;
      EXPECT_FALSE(at::equal(after, bias)) << what;
      ++compared;
    }
  }
  EXPECT_GT(compared, 80u);
}

}  // namespace
}  // namespace tsquant::testing
