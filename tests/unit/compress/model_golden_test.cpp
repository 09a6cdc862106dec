// nncf.compress_weights on whole models: which weight gets which precision, its codes, scales and zero points, and the
// model's output. Made by NNCF 3.2 (commit ef8e1dbd8).
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "graph/node_lists.h"
#include "io/named_tensors.h"
#include "lowering/compressed/decompression_chain.h"
#include "numerics/pack.h"
#include "options/words.h"
#include "support/support.h"
#include "support/thrown_error.h"
#include "tsquant/compress_weights.h"

namespace tsquant {
namespace {

using nlohmann::json;

struct Golden {
  std::string folder;
  json index;
  std::map<std::string, at::Tensor> arrays;

  explicit Golden(std::string path) : folder(std::move(path)) {
    std::ifstream file(folder + "/index_models.json");
    index = json::parse(file);
    for (const auto& entry : read_numpy_file(folder + "/models.npz")) arrays[entry.name] = entry.tensor;
  }
};

const Golden& golden() {
  // TSQUANT_GOLDENS: the folder of all models, instead of those that the tests carry.
  const char* all = std::getenv("TSQUANT_GOLDENS");
  static const Golden data(all ? std::string(all) : testing::data_file("compression/models"));
  return data;
}

Dataset inputs_of(const std::string& model) {
  const auto module = torch::jit::load(golden().folder + "/" + model + ".inputs.pt");
  std::vector<at::Tensor> samples;
  for (const auto& buffer : module.named_buffers()) samples.push_back(buffer.value);
  return Dataset::from_tensors(samples);
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// The options that a run's name stands for: "int4_sym_gs32_ratio0.8_mean_activation_variance_all_layers".
CompressWeightsOptions options_of(const std::string& run, const std::string& model) {
  CompressWeightsOptions options;
  const std::string mode = run.substr(0, run.find("_gs"));
  options.mode = *find_word(words<CompressWeightsMode>(), mode);
  if (has(run, "_gs")) options.group_size = std::stoll(run.substr(run.find("_gs") + 3));
  options.all_layers = has(run, "_all_layers");
  auto& advanced = options.advanced_parameters;
  if (has(run, "_adjust")) advanced.group_size_fallback_mode = GroupSizeFallbackMode::kAdjust;
  if (has(run, "_ignore")) advanced.group_size_fallback_mode = GroupSizeFallbackMode::kIgnore;
  options.scale_estimation = has(run, "_scale_estimation") || has(run, "_se");
  options.awq = has(run, "_awq");
  if (has(run, "_backup_int8_sym")) options.backup_mode = BackupMode::kInt8Sym;
  if (has(run, "_backup_none")) options.backup_mode = BackupMode::kNone;
  if (has(run, "_backup")) options.ratio = 0.5;
  for (const auto& [word, metric] : words<SensitivityMetric>()) {
    if (!has(run, word)) continue;
    options.sensitivity_metric = metric;
    options.ratio = std::stod(run.substr(run.find("_ratio") + 6));
  }
  const bool data_free = has(run, "_awq_datafree") || has(run, "weight_quantization_error") || has(mode, "int8");
  if (!data_free) options.dataset = inputs_of(model);
  return options;
}

std::string decompressor_of(const WeightRecord& record) {
  static const std::map<std::string, std::string> names{{"int8_asym", "INT8Asymmetric"},
                                                        {"int8_sym", "INT8Symmetric"},
                                                        {"int4_asym", "INT4Asymmetric"},
                                                        {"int4_sym", "INT4Symmetric"}};
  return names.at(record.format);
}

/// The compressed weights of a model by name.
std::map<std::string, StoredWeight> stored_weights(const Model& model) {
  std::map<std::string, StoredWeight> weights;
  for (const auto* node : all_nodes(model.graph()->block())) {
    for (const auto* input : node->inputs()) {
      const auto found = read_decompression(model, input);
      if (found) weights[param_of(model, found->codes)->name] = found->weight;
    }
  }
  return weights;
}

class ModelGolden : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    for (const auto& result : golden().index.at("results")) {
      if (result.at("key") == GetParam()) result_ = result;
    }
    run_ = result_.at("run");
    model_ = result_.at("model");
  }

  CompressedModel compress() const {
    Model model = Model::load(golden().folder + "/" + model_ + ".model.pt");
    return compress_weights(model, options_of(run_, model_));
  }

  at::Tensor array(const std::string& name) const {
    return golden().arrays.at(result_.at("arrays").at(name).at("npz").get<std::string>());
  }

  void expect_assignment(const CompressedModel& compressed) const {
    std::map<std::string, std::string> ours, theirs;
    for (const auto& record : compressed.report.weights) {
      if (record.format != "float") ours[record.name] = decompressor_of(record);
    }
    for (const auto& [name, decompressor] : result_.at("assignment").items()) theirs[name] = decompressor;
    EXPECT_EQ(ours, theirs);
  }

  void expect_scores(const CompressedModel& compressed) const {
    const json scores = result_.value("sensitivity_scores", json::object());
    for (const auto& [name, score] : scores.items()) {
      for (const auto& record : compressed.report.weights) {
        if (record.name != name || score.is_null()) continue;
        EXPECT_NEAR(record.score, score.get<double>(), 1e-4 * std::abs(score.get<double>()) + 1e-12) << name;
      }
    }
  }

  void expect_tensors(const CompressedModel& compressed) const {
    const auto stored = stored_weights(compressed.model);
    for (const auto& [name, decompressor] : result_.at("assignment").items()) {
      if (!result_.at("arrays").contains(name + "/packed")) continue;
      const auto found = stored.find(name);
      ASSERT_NE(found, stored.end()) << name;
      const StoredWeight& ours = found->second;
      const auto packed = array(name + "/packed");
      const int64_t wrong = (ours.codes.reshape(-1) != packed.reshape(-1)).sum().item<int64_t>();
      EXPECT_LE(wrong, packed.numel() / 10000) << name << ": codes of " << packed.numel();
      EXPECT_TRUE(at::allclose(ours.scale.to(at::kFloat), array(name + "/_scale").to(at::kFloat), 1e-3, 0)) << name;
      const std::string zero_point = name + "/_zero_point";
      EXPECT_EQ(result_.at("arrays").contains(zero_point), ours.zero_point.defined()) << name;
      if (!ours.zero_point.defined() || !result_.at("arrays").contains(zero_point)) continue;
      EXPECT_TRUE(at::equal(ours.zero_point.reshape(-1), array(zero_point).reshape(-1))) << name;
    }
  }

  json result_;
  std::string run_, model_;
};

TEST_P(ModelGolden, EqualsNncf) {
  if (result_.contains("error") && !has(run_, "error") && !has(run_, "all_layers")) {
    GTEST_SKIP() << "NNCF's torch backend refuses it";
  }
  if (result_.contains("error")) {
    const auto error = testing::thrown_error([&] { compress(); });
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_TRUE(has(error.what(), "group size")) << error.what();
    return;
  }
  if (result_.at("assignment").empty()) {  // where NNCF returns the float model
    EXPECT_EQ(testing::thrown_error([&] { compress(); }).code(), ErrorCode::kUnsupportedModel);
    return;
  }
  const auto compressed = compress();
  expect_assignment(compressed);
  expect_scores(compressed);
  if (!result_.contains("arrays")) return;
  expect_tensors(compressed);
}

std::vector<std::string> all_keys() {
  std::vector<std::string> keys;
  for (const auto& result : golden().index.at("results")) keys.push_back(result.at("key"));
  return keys;
}

INSTANTIATE_TEST_SUITE_P(All, ModelGolden, ::testing::ValuesIn(all_keys()), [](const auto& info) {
  std::string name = info.param;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

}  // namespace
}  // namespace tsquant
