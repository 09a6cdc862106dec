// Forks and module interfaces (scripts/make_call_models.py) through quantize_pt2e, in every output form.
#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include "support/support.h"

namespace tsquant::testing::call_models_test {
namespace {

std::string model_file(const std::string& name) { return data_file("traces/calls/" + name + ".pt"); }

std::vector<at::Tensor> images() {
  at::manual_seed(2);
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < 12; ++i) tensors.push_back(at::randn({1, 3, 10, 10}));
  return tensors;
}

class CallModels : public ::testing::TestWithParam<std::tuple<const char*, OutputForm>> {};

TEST_P(CallModels, AreQuantizedAndRunWhereverLibTorchRunsThem) {
  const auto [name, form] = GetParam();
  auto model = Model::load(model_file(name));
  OpenVINOQuantizer quantizer;
  QuantizePt2eOptions options;
  options.form = form;
  const auto result = quantize_pt2e(model, quantizer, Dataset::from_tensors(images()), options);
  for (const auto& node : result.report.nodes) {
    if (node.type == "conv2d") EXPECT_TRUE(node.quantized) << node.name << ": " << node.reason;
  }
  const std::string path = temp_dir() + "/quantized.pt";
  result.save(path);
  auto loaded = torch::jit::load(path);
  auto original = torch::jit::load(model_file(name));
  const at::Tensor x = images().front();
  const at::NoGradGuard no_grad;
  const at::Tensor wanted = original.forward({x}).toTensor();
  const at::Tensor error = loaded.forward({x}).toTensor() - wanted;
  EXPECT_LT((error.norm() / wanted.norm()).item<double>(), 0.1);
}

INSTANTIATE_TEST_SUITE_P(Flows, CallModels,
                         ::testing::Combine(::testing::Values("Fork", "ForkNested", "ForkFunction", "Interface",
                                                              "InterfaceTwo", "InterfaceIndex", "InterfaceFork"),
                                            ::testing::Values(OutputForm::kReference, OutputForm::kDecomposed,
                                                              OutputForm::kFakeQuantize, OutputForm::kLowered)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" +
                                  std::to_string(static_cast<int>(std::get<1>(info.param)));
                         });

}  // namespace
}  // namespace tsquant::testing::call_models_test
