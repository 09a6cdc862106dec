// prepare_fx, calibration and convert against what torch.ao 1.13.1 made of the same models and data.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/script.h>
#include <tsquant/fx/quantize_fx.h>
#include <tsquant/tsquant.h>

#include <algorithm>
#include <filesystem>

#include "support/support.h"

namespace tsquant::testing::fx_flow {
namespace {

/// The default mapping with minima and maxima as activation observers.
tsquant::fx::QConfigMapping min_max_mapping() {
  tsquant::fx::QConfigMapping mapping = tsquant::fx::get_default_qconfig_mapping("onednn");
  ObserverConfig activation;
  const tsquant::fx::QConfig qconfig{activation, tsquant::fx::get_default_qconfig("onednn").weight};
  mapping.set_global(qconfig);
  for (const char* type : {"Conv1d", "Conv2d", "Conv3d", "Linear", "ReLU", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d",
                           "torch.nn.functional.conv1d", "torch.nn.functional.conv2d", "torch.nn.functional.conv3d",
                           "torch.nn.functional.linear", "torch.nn.functional.relu"}) {
    mapping.set_object_type(type, qconfig);
  }
  ObserverConfig float_weight;
  float_weight.type = ObserverType::kPlaceholder, float_weight.dtype = c10::kFloat;
  mapping.set_object_type("layer_norm", tsquant::fx::QConfig{activation, float_weight});
  // The models call it as a method, for which torch.ao has no pattern; here methods and functions are one.
  mapping.set_object_type("softmax", c10::nullopt);
  mapping.set_object_type("torch.nn.Embedding", tsquant::fx::float_qparams_weight_only_qconfig());
  return mapping;
}

struct Golden {
  Model model;
  torch::jit::Module data;
  at::Tensor tensor(const std::string& name) const { return data.attr(name).toTensor(); }
};

Golden golden(const std::string& name) {
  return {Model::load(data_file("fx/" + name + ".pt")), torch::jit::load(data_file("fx/" + name + ".data.pt"))};
}

torch::jit::Module calibrated(const Golden& golden) {
  auto prepared = tsquant::fx::prepare_fx(golden.model, min_max_mapping(), {{golden.tensor("calib0")}, {}});
  at::NoGradGuard no_grad;
  for (const char* name : {"calib0", "calib1", "calib2", "calib3"}) prepared.forward({golden.tensor(name)});
  return prepared;
}

double largest_quantum(const Report& report) {
  double quantum = 0;
  for (const auto& record : report.quantizers) {
    if (record.kind == "activation") quantum = std::max(quantum, record.scale.at(0));
  }
  return quantum;
}

/// With more than one thread LibTorch chooses oneDNN's convolutions, as where the references were made.
class TwoThreads {
 public:
  TwoThreads() { at::set_num_threads(2); }
  ~TwoThreads() { at::set_num_threads(before_); }
  TwoThreads(const TwoThreads&) = delete;
  TwoThreads& operator=(const TwoThreads&) = delete;

 private:
  int before_ = at::get_num_threads();
};

class FxFlow : public ::testing::TestWithParam<std::string> {};

TEST_P(FxFlow, TheReferenceModelComputesTheSame) {
  const TwoThreads threads;
  const Golden model = golden(GetParam());
  const auto result = tsquant::fx::convert_to_reference_fx(calibrated(model));
  const at::Tensor actual = result.model.run({{model.tensor("test")}, {}}).toTensor();
  const at::Tensor expected = model.tensor("minmax_reference_out");
  // LibTorch's convolutions round differently from one processor to the next: values between two codes fall either way.
  const at::Tensor error = (actual - expected).abs();
  EXPECT_LE((error > 1e-5).sum().item<int64_t>(), actual.numel() * 3 / 100);
  EXPECT_LE(error.max().item<double>(), largest_quantum(result.report) * 1.001);
}

TEST_P(FxFlow, WeightsAreTheSameIntegers) {
  const Golden model = golden(GetParam());
  const auto result = tsquant::fx::convert_to_reference_fx(calibrated(model));
  int64_t compared = 0;
  for (const auto& parameter : result.model.module().named_parameters()) {
    std::string name = parameter.name.substr(0, parameter.name.rfind(".weight"));
    std::replace(name.begin(), name.end(), '.', '_');
    if (!model.data.hasattr("minmax_wint__" + name)) continue;
    const at::Tensor codes = parameter.value.is_quantized() ? parameter.value.int_repr() : parameter.value;
    EXPECT_TRUE(at::equal(codes, model.tensor("minmax_wint__" + name))) << name;
    ++compared;
  }
  EXPECT_GE(compared, 1);
}

TEST_P(FxFlow, TheLoweredModelIsWithinOneQuantum) {
  const Golden model = golden(GetParam());
  const auto prepared = calibrated(model);
  tsquant::fx::ConvertFxOptions options;
  options.engine = "tsquant";
  options.cost = LoweringCost::kOff;
  const auto lowered = tsquant::fx::convert_fx(prepared, options);
  const auto reference = tsquant::fx::convert_to_reference_fx(prepared);
  const Sample sample{{model.tensor("test")}, {}};
  const at::Tensor difference = lowered.model.run(sample).toTensor() - reference.model.run(sample).toTensor();
  EXPECT_LE(difference.abs().max().item<double>(), largest_quantum(lowered.report) * 1.001);
  EXPECT_GE(lowered.report.quantized_count(), 2);
}

INSTANTIATE_TEST_SUITE_P(models, FxFlow, ::testing::Values("conv_bn_relu", "residual", "cat_pool", "mlp", "emb_linear"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace tsquant::testing::fx_flow
