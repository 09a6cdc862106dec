// Models that FxQuantizer quantizes give what torch.ao's reference models give (tests/data/fx).
#include <gtest/gtest.h>
#include <torch/script.h>

#include "fx_golden.h"
#include "support/support.h"
#include "tsquant/fx/fx_quantizer.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant::testing {
namespace {

class FxNumbers : public ::testing::TestWithParam<std::string> {};

TEST_P(FxNumbers, reference_models_are_torch_ao_s) {
  const auto data = torch::jit::load(data_file("fx/" + GetParam() + ".data.pt"));
  const auto tensor = [&](const std::string& name) { return data.attr(name).toTensor(); };
  std::vector<at::Tensor> samples;
  for (int i = 0; i < 4; ++i) samples.push_back(tensor("calib" + std::to_string(i)));
  Model model = Model::load(data_file("fx/" + GetParam() + ".pt"));
  fx::FxQuantizer quantizer(min_max_mapping());
  QuantizePt2eOptions options;
  options.form = OutputForm::kReference;
  options.batchwise_statistics = false;
  options.fast_bias_correction = c10::nullopt;
  auto result = quantize_pt2e(model, quantizer, Dataset::from_tensors(samples), options);
  auto module = result.model.module();
  const auto ours = module.forward({tensor("test")}).toTensor();
  const auto golden = tensor("minmax_reference_out");
  // A sum that is rounded otherwise may move a value by one code.
  const double quantization = (tensor("fp32_out") - golden).abs().mean().item<double>();
  EXPECT_LT((ours - golden).abs().mean().item<double>(), 0.1 * quantization);
}

INSTANTIATE_TEST_SUITE_P(models, FxNumbers, ::testing::Values("conv_bn_relu", "cat_pool"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace tsquant::testing
