// prepare_qat_fx against what torch.ao 1.13.1 trained: every step, and the state that training ended in.
// qat_live_test.cpp compares more of each step.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/script.h>
#include <tsquant/fx/quantize_fx.h>
#include <tsquant/observer_module.h>
#include <tsquant/tsquant.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/support.h"
#include "unit/prepare/qat_training.h"

namespace tsquant::testing::qat_golden {
namespace {

constexpr double kBar = 1e-5;

class QatGolden : public ::testing::TestWithParam<int64_t> {
 protected:
  at::Tensor tensor(const std::string& name) const { return data_.attr(name).toTensor(); }
  at::Tensor made(const std::string& name) const { return tensor("v" + std::to_string(GetParam()) + "_" + name); }

  /// LibTorch then chooses oneDNN's convolutions, as where the references were made.
  void SetUp() override { at::set_num_threads(2); }
  void TearDown() override { at::set_num_threads(threads_); }

  torch::jit::Module prepared() const {
    return tsquant::fx::prepare_qat_fx(Model::load(data_file("fx/qat_net.pt")),
                                       tsquant::fx::get_default_qat_qconfig_mapping("onednn", GetParam()),
                                       {{tensor("train0")}, {}});
  }

  /// Loss, and scales and zero points of every fake quantize by torch.ao's name, after each step.
  nlohmann::json steps() const {
    std::ifstream file(data_file("fx/qat_steps.json"));
    return nlohmann::json::parse(file)["v" + std::to_string(GetParam())];
  }

  static void expect_equal(const at::Tensor& actual, const at::Tensor& expected) {
    EXPECT_LE((actual - expected).abs().max().item<double>(), kBar);
  }

  int threads_ = at::get_num_threads();
  torch::jit::Module data_ = torch::jit::load(data_file("fx/qat_net.data.pt"));
};

std::vector<double> sorted(const nlohmann::json& values_by_name) {
  std::vector<double> all;
  for (const auto& values : values_by_name) {
    for (const double value : values) all.push_back(value);
  }
  std::sort(all.begin(), all.end());
  return all;
}

std::vector<double> sorted(const NamedTensors& values_by_name) {
  std::vector<double> all;
  for (const auto& [name, values] : values_by_name) {
    for (int64_t i = 0; i < values.numel(); ++i) all.push_back(values.flatten()[i].item<double>());
  }
  std::sort(all.begin(), all.end());
  return all;
}

TEST_P(QatGolden, EveryStepHasTheSameOutputsGradientsAndScales) {
  auto module = prepared();
  std::vector<at::Tensor> batches;
  for (size_t i = 0; i < steps().size(); ++i) batches.push_back(tensor("train" + std::to_string(i)));
  ASSERT_EQ(batches.size(), 4U);
  const auto trained = train_steps(module, batches);
  for (size_t i = 0; i < trained.size(); ++i) {
    SCOPED_TRACE("step " + std::to_string(i));
    const auto golden = steps()[i];
    expect_equal(trained[i].out, made("out" + std::to_string(i)));
    EXPECT_NEAR(trained[i].loss, golden["loss"].get<double>(), kBar);
    expect_equal(trained[i].gradients.at("c1.weight"), made("c1_wgrad" + std::to_string(i)));
    const auto scales = sorted(trained[i].scales), expected = sorted(golden["scales"]);
    ASSERT_EQ(scales.size(), expected.size());
    for (size_t k = 0; k < scales.size(); ++k) EXPECT_NEAR(scales[k], expected[k], kBar * expected[k]) << k;
    EXPECT_EQ(sorted(trained[i].zero_points), sorted(golden["zero_points"]));
  }
}

/// The fake quantize with these scales.
torch::jit::Module find(const torch::jit::Module& module, const nlohmann::json& scales) {
  for (const auto& child : module.named_modules()) {
    if (!child.value.hasattr("scale")) continue;
    const at::Tensor own = child.value.attr("scale").toTensor();
    if (own.numel() != static_cast<int64_t>(scales.size())) continue;
    const at::Tensor wanted = at::tensor(scales.get<std::vector<double>>(), at::kDouble);
    if (at::allclose(own.to(at::kDouble).flatten(), wanted, 1e-5, 0)) return child.value;
  }
  throw std::runtime_error("no module has the scales " + scales.dump());
}

// The first step tells which of our modules are which of torch.ao's; then they get the state of its trained model.
TEST_P(QatGolden, TheStateOfATrainedModelConvertsToItsReferenceAndLoweredModel) {
  const at::NoGradGuard no_grad;
  auto module = prepared();
  module.forward({tensor("train0")});
  const auto scales = steps()[0]["scales"];
  for (const auto& [name, golden] : scales.items()) {
    std::string record = "final_" + name + "_activation_post_process_";
    std::replace(record.begin(), record.end(), '.', '_');
    const auto observer = find(module, golden).attr("activation_post_process").toModule();
    observer.attr("min_val").toTensor().copy_(made(record + "min_val"));
    observer.attr("max_val").toTensor().copy_(made(record + "max_val"));
  }
  for (const char* layer : {"1", "2"}) {
    for (const char* field : {"weight", "bias", "running_mean", "running_var"}) {
      module.attr(std::string("b") + layer)
          .toModule()
          .attr(field)
          .toTensor()
          .copy_(made(std::string("final_c") + layer + "_bn_" + field));
    }
    module.attr(std::string("c") + layer)
        .toModule()
        .attr("weight")
        .toTensor()
        .copy_(made(std::string("final_c") + layer + "_weight"));
  }
  module.attr("c1").toModule().attr("bias").toTensor().copy_(made("final_c1_bias"));
  module.attr("fc").toModule().attr("weight").toTensor().copy_(made("final_fc_weight"));
  module.attr("fc").toModule().attr("bias").toTensor().copy_(made("final_fc_bias"));
  const auto result = tsquant::fx::convert_to_reference_fx(module);
  const Sample test{{tensor("test")}, {}};
  expect_equal(result.model.run(test).toTensor(), made("reference_out"));
  tsquant::fx::ConvertFxOptions options;
  options.engine = "tsquant";
  options.cost = LoweringCost::kOff;
  const auto lowered = tsquant::fx::convert_fx(module, options);
  const auto& records = lowered.report.quantizers;
  const auto of_result = std::find_if(records.begin(), records.end(), [](const QuantizerRecord& record) {
    return record.kind == "activation" && record.node.rfind("fc/linear", 0) == 0;
  });
  ASSERT_NE(of_result, records.end());
  const at::Tensor difference = lowered.model.run(test).toTensor() - made("lowered_out");
  EXPECT_LE(difference.abs().max().item<double>(), 1.001 * of_result->scale.at(0));
}

INSTANTIATE_TEST_SUITE_P(versions, QatGolden, ::testing::Values(0, 1));

}  // namespace
}  // namespace tsquant::testing::qat_golden
