// prepare_qat_fx against what torch.ao 1.13.1 trained: the first step, and the state that training ended in.
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

namespace tsquant::testing::qat_golden {
namespace {

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

  /// Of every fake quantize by torch.ao's name.
  nlohmann::json first_step() const {
    std::ifstream file(data_file("fx/qat_steps.json"));
    return nlohmann::json::parse(file)["v" + std::to_string(GetParam())][0];
  }

  /// LibTorch's convolutions round differently from one processor to the next, and a value between two codes may fall
  /// on the other side, which moves one sample's outputs by a quantum.
  static void expect_equal(const at::Tensor& actual, const at::Tensor& expected) {
    constexpr double kQuantum = 0.013;
    const at::Tensor error = (actual - expected).abs();
    EXPECT_LE((error > 1e-5).sum().item<int64_t>(), actual.numel() / 4);
    EXPECT_LT(error.max().item<double>(), kQuantum);
  }

  int threads_ = at::get_num_threads();
  torch::jit::Module data_ = torch::jit::load(data_file("fx/qat_net.data.pt"));
};

std::vector<double> scales_of(const torch::jit::Module& module) {
  std::vector<double> scales;
  for (const auto& buffer : module.named_buffers()) {
    if (buffer.name.size() < 6 || buffer.name.substr(buffer.name.size() - 6) != ".scale") continue;
    const at::Tensor values = buffer.value.to(at::kDouble);
    for (int64_t i = 0; i < values.numel(); ++i) scales.push_back(values[i].item<double>());
  }
  std::sort(scales.begin(), scales.end());
  return scales;
}

TEST_P(QatGolden, TheFirstStepHasTheSameOutputsAndScales) {
  auto module = prepared();
  const at::Tensor out = module.forward({tensor("train0")}).toTensor();
  expect_equal(out, made("out0"));
  std::vector<double> expected;
  for (const auto& observer : first_step()) {
    for (const double scale : observer["buffer_scale"]) expected.push_back(scale);
  }
  std::sort(expected.begin(), expected.end());
  const auto scales = scales_of(module);
  ASSERT_EQ(scales.size(), expected.size());
  for (size_t i = 0; i < scales.size(); ++i) EXPECT_NEAR(scales[i], expected[i], 1e-5 * expected[i]) << i;
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
TEST_P(QatGolden, TheStateOfATrainedModelConvertsToItsReference) {
  const at::NoGradGuard no_grad;
  auto module = prepared();
  module.forward({tensor("train0")});
  const auto steps = first_step();
  for (const auto& [name, golden] : steps.items()) {
    std::string record = "final_" + name + "_activation_post_process_";
    std::replace(record.begin(), record.end(), '.', '_');
    const auto observer = find(module, golden["buffer_scale"]).attr("activation_post_process").toModule();
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
  expect_equal(result.model.run({{tensor("test")}, {}}).toTensor(), made("reference_out"));
}

INSTANTIATE_TEST_SUITE_P(versions, QatGolden, ::testing::Values(0, 1));

}  // namespace
}  // namespace tsquant::testing::qat_golden
