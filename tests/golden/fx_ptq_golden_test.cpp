// Scales and zero points of whole models against NNCF's quantize_pt2e: every model and variant, from the file to the
// report as a user would run it (tests/data/fx_ptq, made by scripts/pack_fx_ptq_goldens.py).
#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "support/support.h"

namespace tsquant::fx_ptq_golden_test {
namespace {

using nlohmann::json;
using Aggregator = AggregatorType;
using Statistic = StatisticsType;

RangeEstimatorParameters quantiles_001() {
  auto result = RangeEstimatorParameters::mean_quantile();
  result.min.quantile_outlier_prob = result.max.quantile_outlier_prob = 0.01;
  return result;
}

/// The estimator that a variant is named after; NNCF's defaults for other variants.
RangeEstimatorParameters activation_ranges(const std::string& variant) {
  static const std::map<std::string, RangeEstimatorParameters> kByName{
      {"act_minmax", RangeEstimatorParameters::minmax()},
      {"act_median_minmax", RangeEstimatorParameters::median_minmax()},
      {"act_mean_no_outliers", RangeEstimatorParameters::mean_no_outliers_minmax()},
      {"act_mean_quantile_0.01", quantiles_001()},
      {"act_histogram", RangeEstimatorParameters::histogram()}};
  const auto found = kByName.find(variant);
  return found == kByName.end() ? RangeEstimatorParameters() : found->second;
}

struct Case {
  std::string variant;
  bool has(const std::string& word) const { return variant.find(word) != std::string::npos; }
  /// Variants that show statistics use the mixed preset, whose asymmetric activations show both ends.
  c10::optional<QuantizationPreset> preset() const {
    const bool mixed = has("mixed") || has("act_") || has("batchwise") || has("subset");
    return mixed ? c10::make_optional(QuantizationPreset::kMixed) : c10::nullopt;
  }
};

/// NNCF's quantize_pt2e drops the overflow fix of its quantizer (README of this project), so ours is left at its
/// default.
Report run(const Case& test, Model& model, const Dataset& data) {
  OpenVINOQuantizerOptions placement;
  placement.preset = test.preset();
  placement.quantize_outputs = test.variant == "quantize_outputs";
  if (test.has("transformer")) placement.model_type = ModelType::kTransformer;
  QuantizePt2eOptions options;
  if (test.variant == "subset_4") options.subset_size = 4;
  if (test.variant == "batchwise") options.batchwise_statistics = true;
  options.smooth_quant = test.has("smooth_quant");
  if (test.has("conv_0.05")) options.smooth_quant_params.convolution = 0.05;
  if (test.has("quant_0.5")) options.smooth_quant_params.matmul = 0.5;
  if (test.has("bc_full")) options.fast_bias_correction = false;
  if (test.has("bc_none") || test.has("act_") || test.has("overflow")) options.fast_bias_correction = c10::nullopt;
  options.activations_range_estimator_params = activation_ranges(test.variant);
  if (test.has("w_mean")) options.weights_range_estimator_params = quantiles_001();
  OpenVINOQuantizer quantizer(placement);
  return quantize_pt2e(model, quantizer, data, options).report;
}

/// Names that a quantizer of ours may have in the reference.
class Names {
 public:
  explicit Names(const Report& report) {
    for (const auto& node : report.nodes) alias_[node.name] = node.fx_name;
  }
  bool is_one_of(const std::string& node, const json& wanted) const {
    const auto alias = alias_.find(node);
    return std::any_of(wanted.begin(), wanted.end(), [&](const json& name) {
      return name == node || (alias != alias_.end() && name == alias->second);
    });
  }

 private:
  std::map<std::string, std::string> alias_;
};

bool same_parameters(const QuantizerRecord& ours, const json& reference) {
  const auto& scale = reference["scale"];
  if (ours.scale.size() != scale.size()) return false;
  for (size_t i = 0; i < scale.size(); ++i) {
    const double expected = scale[i];
    if (std::abs(ours.scale[i] - expected) > 1e-6 * std::abs(expected)) return false;
    const int64_t zero_point = reference["zero_point"].empty() ? 0 : reference["zero_point"][i].get<int64_t>();
    if (ours.zero_point[i] != zero_point) return false;
  }
  return true;
}

/// Where SmoothQuant's multiplication is quantized. NNCF has one for each consumer of a tensor, ours share one.
bool is_smoothed(const json& wanted) {
  return wanted["nodes"][0].get<std::string>().find("nncf_smooth_quant") != std::string::npos;
}

/// Reference quantizers without a counterpart of ours.
std::vector<std::string> unmet(const Case& test, const json& golden, const Report& report) {
  const Names names(report);
  std::set<const QuantizerRecord*> used;
  std::vector<std::string> missing;
  for (const int index : golden["configs"][test.variant]) {
    const json& wanted = golden["quantizers"][index];
    const bool smoothed = is_smoothed(wanted);
    const auto met = std::find_if(report.quantizers.begin(), report.quantizers.end(), [&](const QuantizerRecord& ours) {
      if (!smoothed && used.count(&ours) > 0) return false;
      if ((ours.kind == "weight") != wanted["weight"].get<bool>()) return false;
      return (smoothed || names.is_one_of(ours.node, wanted["nodes"])) && same_parameters(ours, wanted);
    });
    if (met == report.quantizers.end()) {
      missing.push_back(wanted.dump().substr(0, 160));
    } else {
      used.insert(&*met);
    }
  }
  return missing;
}

class FxPtqGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(FxPtqGolden, EveryVariant) {
  const std::string place = testing::data_file("fx_ptq/" + GetParam());
  const auto golden = json::parse(std::ifstream(place + ".json"));
  const auto inputs = torch::jit::load(place + ".inputs.pt");
  std::vector<at::Tensor> samples;
  for (int i = 0; i < 10; ++i) samples.push_back(inputs.attr("x" + std::to_string(i)).toTensor());
  Case test;
  for (const auto& config : golden["configs"].items()) {
    test.variant = config.key();
    auto model = Model::load(place + ".model.pt");
    const auto missing = unmet(test, golden, run(test, model, Dataset::from_tensors(samples)));
    if (!missing.empty()) ADD_FAILURE() << test.variant << ": " << missing.size() << " unmet, first " << missing[0];
  }
}

std::vector<std::string> all_models() {
  std::vector<std::string> models;
  for (const auto& entry : std::filesystem::directory_iterator(testing::data_file("fx_ptq"))) {
    if (entry.path().extension() == ".json") models.push_back(entry.path().stem().string());
  }
  std::sort(models.begin(), models.end());
  return models;
}

INSTANTIATE_TEST_SUITE_P(All, FxPtqGolden, ::testing::ValuesIn(all_models()));

}  // namespace
}  // namespace tsquant::fx_ptq_golden_test
