// Statistics, parameters and integer weights of whole models against NNCF's quantize_pt2e.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "calibration/calibrator.h"
#include "graph/params.h"
#include "passes/rewrite_runner.h"
#include "support/support.h"
#include "unit/calibration/estimator_names.h"

namespace tsquant {
namespace {

using nlohmann::json;

Dataset inputs_of(const std::string& model) {
  const auto module = torch::jit::load(testing::data_file("numerics/" + model + ".inputs.pt"));
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < 10; ++i) tensors.push_back(module.attr("x" + std::to_string(i)).toTensor());
  return Dataset::from_tensors(tensors);
}

QuantizationPoint point_of(const json& record, const json& entry, const GraphView& view, int64_t id) {
  QuantizationPoint point;
  point.id = id;
  const auto* node = view.find(entry["node"].get<std::string>());
  if (!node) throw std::runtime_error("no node " + entry["node"].get<std::string>());
  point.node = node->name;
  const bool is_signed = entry["dtype"] == "torch.int8";
  if (entry["weight"]) {
    point.kind = PointKind::kWeight;
    point.input_port = entry["port"].get<int64_t>();
    point.spec.per_channel = entry["per_channel"];
    // Operators that are not weighted, such as layer_norm, treat their constants like activations.
    point.spec.narrow_range = entry["quant_min"] == -127;
    if (point.spec.narrow_range) point.spec.signedness_to_force = true;
    // The overflow fix of the first convolution, NNCF's default.
    point.spec.half_range = entry["node"] == "conv2d";
  }
  // Attention inputs stay symmetric in the mixed preset.
  const bool asymmetric = record["mixed"] && !entry["weight"] && !is_signed;
  if (asymmetric) point.spec.mode = QuantizationScheme::kAsymmetric;
  return point;
}

void compare(const json& entry, const QParams& q, const std::string& what) {
  const auto scale = torch::tensor(entry["scale"].get<std::vector<double>>());
  EXPECT_TRUE(at::allclose(q.scale.to(at::kDouble), scale.to(at::kDouble), 1e-6, 0)) << what << q.scale << scale;
  EXPECT_TRUE(at::equal(q.zero_point, torch::tensor(entry["zero_point"].get<std::vector<int64_t>>()))) << what;
  EXPECT_EQ(q.dtype, entry["dtype"] == "torch.int8" ? c10::kChar : c10::kByte) << what;
}

void compare_codes(const json& entry, const QParams& q, const Model& model, const GraphView& view,
                   const std::string& what) {
  const auto* edge = view.input_edge(*view.find(entry["node"].get<std::string>()), entry["port"].get<int64_t>());
  const auto weight = param_of(model, edge->value)->tensor;
  const auto codes = quantize(weight, q).flatten().to(at::kInt);
  const auto expected = torch::tensor(entry["codes"].get<std::vector<int>>()).to(at::kInt);
  // With half range the largest weight lies exactly between two codes (63.5), so the last bit of folding decides.
  const auto differs = codes != expected;
  const auto step = q.per_channel ? q.scale.reshape({-1, 1}).expand({-1, weight.numel() / q.scale.numel()}) : q.scale;
  const auto position = (weight.flatten(q.per_channel ? 1 : 0) / step).flatten();
  const auto tie = ((position - position.floor()) - 0.5).abs() < 1e-4;
  EXPECT_FALSE((differs & ~tie).any().item<bool>()) << what << codes.masked_select(differs);
  EXPECT_LE((codes - expected).abs().max().item<int>(), 1) << what;
}

class FxGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(FxGolden, EveryConfiguration) {
  std::ifstream file(testing::data_file("numerics/nncf_fx_models.json"));
  auto model = Model::load(testing::data_file(std::string("numerics/") + GetParam() + ".model.pt"));
  run_passes(model);
  const GraphView view(model);
  const auto data = inputs_of(GetParam());
  size_t configurations = 0, weights = 0;
  for (const auto& record : json::parse(file)) {
    if (record["model"] != GetParam()) continue;
    ++configurations;
    Annotations annotations;
    for (const auto& entry : record["points"]) {
      annotations.points.push_back(point_of(record, entry, view, static_cast<int64_t>(annotations.points.size())));
    }
    CalibrationOptions options;
    options.subset_size = record["samples"];
    options.batchwise = record["batchwise"];
    options.activations_range_estimator = testing::estimator_of(record["estimator"]);
    options.weights_range_estimator = testing::estimator_of(record["weights_estimator"]);
    const auto params = compute_qparams(annotations, calibrate(model, view, annotations, data, options));
    ASSERT_EQ(params.size(), annotations.points.size());
    for (const auto& [id, q] : params) {
      const auto& entry = record["points"][static_cast<size_t>(id)];
      const auto what = record["config"].get<std::string>() + " " + entry["node"].get<std::string>();
      compare(entry, q, what);
      if (!entry.contains("codes")) continue;
      compare_codes(entry, q, model, view, what);
      ++weights;
    }
  }
  EXPECT_GE(configurations, 11u);
  EXPECT_GE(weights, 7u);
}

INSTANTIATE_TEST_SUITE_P(Models, FxGolden, ::testing::Values("conv_resnet", "tiny_transformer_block"));

}  // namespace
}  // namespace tsquant
