// prepare_pt2e, a loop of the user's own, convert_pt2e.
#include <gtest/gtest.h>
#include <tsquant/openvino_quantizer.h>
#include <tsquant/prepare_pt2e.h>
#include <tsquant/tsquant.h>
#include <tsquant/x86_inductor_quantizer.h>
#include <tsquant/xnnpack_quantizer.h>

#include <fstream>
#include <sstream>

#include "graph/node_lists.h"
#include "io/torch_archive.h"
#include "support/support.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

torch::jit::Module net() {
  at::manual_seed(1);
  return define(
      R"(
def forward(self, x):
    y = torch.relu(torch.conv2d(x, self.w1, self.b1, [1, 1], [1, 1]))
    z = torch.conv2d(y, self.w2, self.b2, [1, 1], [1, 1])
    p = torch.flatten(torch.adaptive_avg_pool2d(torch.relu(z + y), [1, 1]), 1)
    return torch.linear(torch.layer_norm(p, [8], self.g, self.g, 1e-5, False), self.w3, self.b3)
)",
      {{"w1", at::randn({8, 3, 3, 3})},
       {"b1", at::randn({8})},
       {"w2", at::randn({8, 8, 3, 3}) * 0.3},
       {"b2", at::randn({8})},
       {"g", at::rand({8}) + 0.5},
       {"w3", at::randn({10, 8})},
       {"b3", at::randn({10})}});
}

std::vector<at::Tensor> images(int64_t count = 6) {
  at::manual_seed(2);
  std::vector<at::Tensor> tensors;
  for (int64_t i = 0; i < count; ++i) tensors.push_back(at::randn({1, 3, 12, 12}) * (1 + 0.3 * i));
  return tensors;
}

std::unique_ptr<Quantizer> make_quantizer(const std::string& name) {
  if (name == "openvino") return std::make_unique<OpenVINOQuantizer>();
  if (name == "xnnpack") {
    auto quantizer = std::make_unique<XNNPACKQuantizer>();
    quantizer->set_global(get_symmetric_quantization_config(/*is_per_channel=*/true));
    return quantizer;
  }
  auto quantizer = std::make_unique<X86InductorQuantizer>();
  quantizer->set_global(get_default_x86_inductor_quantization_config());
  return quantizer;
}

torch::jit::Module prepared(const std::string& quantizer) {
  return prepare_pt2e(Model::from(net()), *make_quantizer(quantizer), {{images()[0]}, {}});
}

void calibrate(torch::jit::Module& module) {
  for (const auto& image : images()) module.forward({image});
}

torch::jit::Module reloaded(const torch::jit::Module& module) {
  std::stringstream stream;
  module.save(stream);
  return torch::jit::load(stream);
}

/// All records of a saved model except the report, which tells how it was made.
std::map<std::string, std::string> records(const QuantizedModel& result) {
  const std::string path = temp_dir() + "/model.pt";
  result.save(path);
  TorchArchive archive(path, model_archive());
  std::map<std::string, std::string> content;
  for (const auto& name : archive.names()) {
    if (name.find("tsquant_report") == std::string::npos) content[name] = archive.read(name);
  }
  return content;
}

QuantizedModel one_step(const std::string& quantizer, OutputForm form) {
  auto model = Model::from(net());
  QuantizePt2eOptions options;
  options.form = form;
  options.fast_bias_correction = c10::nullopt;
  return quantize_pt2e(model, *make_quantizer(quantizer), Dataset::from_tensors(images()), options);
}

QuantizedModel two_steps(const std::string& quantizer, OutputForm form, bool detour) {
  auto module = prepared(quantizer);
  if (detour) module = reloaded(module);
  calibrate(module);
  if (detour) module = reloaded(module);
  ConvertPt2eOptions options;
  options.form = form;
  return convert_pt2e(module, options);
}

class TwoSteps : public ::testing::TestWithParam<std::string> {};

TEST_P(TwoSteps, GiveTheFileOfOneStep) {
  for (const auto form : {OutputForm::kReference, OutputForm::kDecomposed, OutputForm::kFakeQuantize}) {
    const auto expected = one_step(GetParam(), form);
    const auto actual = two_steps(GetParam(), form, /*detour=*/false);
    EXPECT_EQ(records(actual), records(expected)) << static_cast<int>(form);
    EXPECT_EQ(actual.report.quantized_count(), expected.report.quantized_count());
  }
}

TEST_P(TwoSteps, SurviveSavingAndLoading) {
  EXPECT_EQ(records(two_steps(GetParam(), OutputForm::kReference, true)),
            records(two_steps(GetParam(), OutputForm::kReference, false)));
}

TEST_P(TwoSteps, ObserversDoNotChangeResults) {
  auto module = prepared(GetParam());
  const auto model = Model::from(net());
  for (const auto& image : images()) {
    const auto expected = model.run({{image}, {}}).toTensor();
    EXPECT_TRUE(at::allclose(module.forward({image}).toTensor(), expected, 1e-5, 1e-6));
  }
}

TEST_P(TwoSteps, KeepTheNamesOfOperators) {
  const auto result = two_steps(GetParam(), OutputForm::kReference, true);
  const auto expected = one_step(GetParam(), OutputForm::kReference);
  ASSERT_EQ(result.report.nodes.size(), expected.report.nodes.size());
  for (size_t i = 0; i < result.report.nodes.size(); ++i) {
    EXPECT_EQ(result.report.nodes[i].name, expected.report.nodes[i].name);
    EXPECT_EQ(result.report.nodes[i].reason, expected.report.nodes[i].reason);
  }
}

INSTANTIATE_TEST_SUITE_P(Quantizers, TwoSteps, ::testing::Values("openvino", "x86_inductor", "xnnpack"),
                         [](const auto& info) { return info.param; });

TEST(TwoStepErrors, AModelThatWasNotPrepared) {
  const auto error = thrown_error([] { convert_pt2e(net()); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(error.message().find("was not prepared"), std::string::npos);
}

TEST(TwoStepErrors, AModelThatSawNoData) {
  const auto error = thrown_error([] { convert_pt2e(prepared("x86_inductor")); });
  EXPECT_EQ(error.code(), ErrorCode::kCalibration);
  EXPECT_NE(error.message().find("has seen data"), std::string::npos);
}

TEST(TwoStepErrors, TheReferenceRepresentation) {
  ConvertPt2eOptions options;
  options.use_reference_representation = true;
  const auto error = thrown_error([&] { convert_pt2e(prepared("x86_inductor"), options); });
  EXPECT_EQ(error.place(), "use_reference_representation");
}

TEST(TwoStepModel, ThePreparedOneIsNotChangedByConversion) {
  auto module = prepared("x86_inductor");
  calibrate(module);
  const auto first = records(convert_pt2e(module));
  EXPECT_EQ(records(convert_pt2e(module)), first);
  module.forward({images()[0] * 100});
  EXPECT_NE(records(convert_pt2e(module)), first);
}

}  // namespace
}  // namespace tsquant::testing
