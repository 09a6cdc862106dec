// Scales and zero points of all quantizers of whole models against nncf.quantize: every variant of every model in
// tests/data/ptq (scripts/make_ptq_goldens.py).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "support/support.h"
#include "tsquant/tsquant.h"
#include "unit/calibration/estimator_names.h"

namespace tsquant::testing {
namespace {

using nlohmann::json;

constexpr double kTolerance = 1e-6;

std::vector<std::string> models_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.path().extension() == ".json") names.push_back(file.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

json golden(const std::string& model) {
  std::ifstream file(data_file("ptq/" + model + ".json"));
  return json::parse(file);
}

Dataset inputs_of(const std::string& model) {
  const auto module = torch::jit::load(data_file("ptq/" + model + ".inputs.pt"));
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < 10; ++i) tensors.push_back(module.attr("x" + std::to_string(i)).toTensor());
  return Dataset::from_tensors(tensors);
}

template <typename Value>
Value by_name(const std::map<std::string, Value>& values, const json& options, const char* key, Value otherwise) {
  return options.contains(key) ? values.at(options[key]) : otherwise;
}

QuantizeOptions options_of(const json& record) {
  QuantizeOptions options;
  options.form = OutputForm::kReference;
  options.subset_size = record.value("subset_size", 10);
  if (record.contains("preset")) {
    options.preset = record["preset"] == "mixed" ? QuantizationPreset::kMixed : QuantizationPreset::kPerformance;
  }
  if (record.contains("model_type")) options.model_type = ModelType::kTransformer;
  options.target_device = by_name<TargetDevice>({{"CPU", TargetDevice::kCpu}, {"NPU", TargetDevice::kNpu}}, record,
                                                "target_device", TargetDevice::kAny);
  auto& advanced = options.advanced_parameters;
  if (record.contains("overflow_fix")) {
    advanced.overflow_fix = by_name<OverflowFix>({{"enable", OverflowFix::kEnable},
                                                  {"disable", OverflowFix::kDisable},
                                                  {"first_layer_only", OverflowFix::kFirstLayer}},
                                                 record, "overflow_fix", OverflowFix::kDisable);
  }
  // NNCF takes the batch size from loaders only, and these inputs are a list.
  advanced.batchwise_statistics = record.value("batchwise_statistics", false);
  // NNCF has no channel alignment for PyTorch: the variant of that name is the default one.
  advanced.disable_bias_correction = record.value("disable_bias_correction", false);
  advanced.quantize_outputs = record.value("quantize_outputs", false);
  if (record.contains("bias_threshold")) advanced.bias_correction_params.threshold = record["bias_threshold"];
  advanced.activations_range_estimator_params =
      estimator_of(record.value("activations_range_estimator_params", json::object()));
  advanced.weights_range_estimator_params =
      estimator_of(record.value("weights_range_estimator_params", json::object()));
  if (record.value("weights_per_tensor", false)) advanced.weights_quantization_params.per_channel = false;
  if (record.value("weights_asymmetric", false)) {
    advanced.weights_quantization_params.mode = QuantizationScheme::kAsymmetric;
  }
  if (record.contains("smooth_quant_alphas")) {
    advanced.smooth_quant_alphas.convolution = record["smooth_quant_alphas"][0];
    advanced.smooth_quant_alphas.matmul = record["smooth_quant_alphas"][1];
  }
  return options;
}

/// NNCF's backend for PyTorch modules leaves batch normalisation where it is, and so the weights that it quantizes.
QuantizedModel quantized(Model& model, const Dataset& inputs, const json& options) {
  auto setup = make_quantize_setup(options_of(options));
  setup.options.skip_passes = {"fold_batch_norm"};
  OpenVINOQuantizer quantizer(setup.quantizer);
  return quantize_pt2e(model, quantizer, inputs, setup.options);
}

/// NNCF's backend for PyTorch modules quantizes the table of an embedding; the one for graphs, and so
/// OpenVINOQuantizer, quantizes its result.
bool is_embedding_table(const json& entry) { return entry["input"] == 1 && entry["node"] == "wte/embedding/0"; }

/// SmoothQuant's multiplication stands before each layer there, once for all layers that read the tensor here.
bool is_smoothed(const json& entry) {
  return entry["node"].get<std::string>().find("/pre_hook__") != std::string::npos;
}
bool is_smoothed(const QuantizerRecord& record) { return record.node.find("/smooth_quant/") != std::string::npos; }

bool same_values(const json& entry, const QuantizerRecord& record) {
  const double scale = entry["scale"][0];
  return std::abs(record.scale.at(0) - scale) <= kTolerance * scale &&
         record.zero_point.at(0) == entry["zero_point"][0];
}

/// The record of a quantizer: after a node, or at the weight, of which an operator has one.
const QuantizerRecord* find(const Report& report, const json& entry) {
  const std::string node = entry["node"];
  const std::string kind = entry["input"] == -1 ? "activation" : "weight";
  for (const auto& record : report.quantizers) {
    if (is_smoothed(entry) ? is_smoothed(record) && same_values(entry, record)
                           : record.node == node && record.kind == kind) {
      return &record;
    }
  }
  return nullptr;
}

/// Sums in another order move a bound in its last bits, and a zero point that lies between two codes with it.
bool equal_up_to_ties(const QuantizerRecord& record, const std::vector<int64_t>& zero_point) {
  if (record.zero_point == zero_point) return true;
  if (zero_point.size() != 1 || record.zero_point.size() != 1) return false;
  const double exact = static_cast<double>(record.quant_min) - record.min / record.scale.at(0);
  const bool between = std::abs(exact - std::floor(exact) - 0.5) < 1e-3;
  // A range that was widened to the smallest scale has its zero point in the middle of the codes, between two of them.
  const bool widened = record.max - record.min < record.scale[0];
  return (between || widened) && std::abs(record.zero_point[0] - zero_point[0]) == 1;
}

void compare(const json& entry, const QuantizerRecord& record, double tolerance, const std::string& what) {
  const auto scale = entry["scale"].get<std::vector<double>>();
  const auto zero_point = entry["zero_point"].get<std::vector<int64_t>>();
  ASSERT_EQ(record.scale.size(), scale.size()) << what;
  EXPECT_TRUE(equal_up_to_ties(record, zero_point))
      << what << ": zero point " << record.zero_point.at(0) << " instead of " << zero_point.at(0) << " for "
      << record.min << " to " << record.max << ", scale " << record.scale.at(0);
  for (size_t i = 0; i < scale.size(); ++i) {
    EXPECT_NEAR(record.scale[i], scale[i], tolerance * scale[i]) << what << ", channel " << i;
  }
}

class NncfQuantizeModel : public ::testing::TestWithParam<std::string> {};

TEST_P(NncfQuantizeModel, ScalesAndZeroPointsOfEveryVariant) {
  const json data = golden(GetParam());
  const auto inputs = inputs_of(GetParam());
  size_t variants = 0;
  for (const auto& variant : data["variants"]) {
    if (variant.contains("refused")) continue;
    const std::string name = GetParam() + " " + variant["name"].get<std::string>();
    Model model = Model::load(data_file("ptq/" + GetParam() + ".model.pt"));
    const auto result = quantized(model, inputs, variant["options"]);
    // The mean of a normalised tensor is a sum that cancels; NNCF's, in float32, keeps five digits of it.
    const double tolerance = variant["name"] == "act_mean_mean" ? 1e-5 : kTolerance;
    std::set<const QuantizerRecord*> found;
    for (const auto& index : variant["quantizers"]) {
      const auto& entry = data["quantizers"][index.get<size_t>()];
      if (is_embedding_table(entry)) continue;
      const auto what = fmt::format("{}: {} input {}", name, entry["node"].get<std::string>(), entry["input"].dump());
      const auto* record = find(result.report, entry);
      ASSERT_NE(record, nullptr) << what;
      compare(entry, *record, tolerance, what);
      found.insert(record);
    }
    for (const auto& record : result.report.quantizers) {
      const bool embedded = record.node == "wte/embedding/0";
      EXPECT_TRUE(found.count(&record) > 0 || embedded) << name << ": " << record.node << " has no counterpart";
    }
    ++variants;
  }
  EXPECT_GE(variants, 29u);
}

/// Nothing of the folder that the goldens were packed from is left out.
TEST(NncfQuantize, AllModelsAndVariantsAreHere) {
  const char* given = std::getenv("TSQUANT_GOLDENS");
  const std::string folder = (given ? std::string(given) : TSQUANT_SOURCE_DIR "/../shared/goldens/nncf") + "/ptq";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "the goldens are not here (set TSQUANT_GOLDENS)";
  EXPECT_EQ(models_in(folder), models_in(data_file("ptq")));
  for (const auto& model : models_in(folder)) {
    std::ifstream file(folder + "/" + model + ".json");
    std::set<std::string> there, here;
    for (const auto& item : json::parse(file)["configs"].items()) there.insert(item.key());
    for (const auto& variant : golden(model)["variants"]) here.insert(variant["name"].get<std::string>());
    EXPECT_EQ(there, here) << model;
  }
}

INSTANTIATE_TEST_SUITE_P(All, NncfQuantizeModel, ::testing::ValuesIn(models_in(data_file("ptq"))),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace tsquant::testing
