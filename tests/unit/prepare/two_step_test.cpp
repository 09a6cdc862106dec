// prepare_pt2e, a loop of the user's own, convert_pt2e.
#include <gtest/gtest.h>
#include <tsquant/openvino_quantizer.h>
#include <tsquant/prepare_pt2e.h>
#include <tsquant/strip.h>
#include <tsquant/tsquant.h>
#include <tsquant/x86_inductor_quantizer.h>
#include <tsquant/xnnpack_quantizer.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "graph/node_lists.h"
#include "io/torch_archive.h"
#include "support/support.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

/// Convolutions alone, and batches: LibTorch then computes them as the calibrator does, which runs oneDNN's always.
torch::jit::Module net() {
  at::manual_seed(1);
  return define(
      R"(
def forward(self, x):
    y = torch.relu(torch.conv2d(x, self.w1, self.b1, [1, 1], [1, 1]))
    z = torch.conv2d(y, self.w2, self.b2, [1, 1], [1, 1])
    p = torch.adaptive_avg_pool2d(torch.relu(z + y), [1, 1])
    return torch.flatten(torch.conv2d(torch.layer_norm(p, [8, 1, 1], self.g, self.g, 1e-5, False), self.w3, self.b3), 1)
)",
      {{"w1", at::randn({8, 3, 3, 3})},
       {"b1", at::randn({8})},
       {"w2", at::randn({8, 8, 3, 3}) * 0.3},
       {"b2", at::randn({8})},
       {"g", at::rand({8, 1, 1}) + 0.5},
       {"w3", at::randn({10, 8, 1, 1})},
       {"b3", at::randn({10})}});
}

Model model() {
  static const Model captured = Model::from(net());
  return captured.clone();
}

std::vector<at::Tensor> images(int64_t count = 6) {
  at::manual_seed(2);
  std::vector<at::Tensor> tensors;
  for (int64_t i = 0; i < count; ++i) tensors.push_back(at::randn({20, 3, 12, 12}) * (1 + 0.3 * i));
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
  return prepare_pt2e(model(), *make_quantizer(quantizer), {{images()[0]}, {}});
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

/// Names of the records that are not the same in both.
std::vector<std::string> differing(const std::map<std::string, std::string>& a,
                                   const std::map<std::string, std::string>& b) {
  std::vector<std::string> names;
  for (const auto* side : {&a, &b}) {
    for (const auto& record : *side) {
      const auto in_a = a.find(record.first), in_b = b.find(record.first);
      if (in_a == a.end() || in_b == b.end() || in_a->second != in_b->second) names.push_back(record.first);
    }
  }
  return names;
}

const std::vector<std::string> kNone;

QuantizedModel one_step(const std::string& quantizer, OutputForm form) {
  auto copy = model();
  QuantizePt2eOptions options;
  options.form = form;
  options.fast_bias_correction = c10::nullopt;
  return quantize_pt2e(copy, *make_quantizer(quantizer), Dataset::from_tensors(images()), options);
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
    EXPECT_EQ(differing(records(actual), records(expected)), kNone) << static_cast<int>(form);
    EXPECT_EQ(actual.report.quantized_count(), expected.report.quantized_count());
  }
}

TEST_P(TwoSteps, SurviveSavingAndLoading) {
  // Where the source of an operator was is told by the archive that was loaded last.
  const auto without_debug = [](std::map<std::string, std::string> content) {
    for (auto it = content.begin(); it != content.end();) {
      it = it->first.find(".debug_pkl") == std::string::npos ? std::next(it) : content.erase(it);
    }
    return content;
  };
  EXPECT_EQ(differing(without_debug(records(two_steps(GetParam(), OutputForm::kReference, true))),
                      without_debug(records(two_steps(GetParam(), OutputForm::kReference, false)))),
            kNone);
}

TEST_P(TwoSteps, ObserversDoNotChangeResults) {
  auto module = prepared(GetParam());
  const auto copy = model();
  const auto original = model();
  for (const auto& image : images()) {
    const auto expected = original.run({{image}, {}}).toTensor();
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

TEST(TwoStepErrors, AModelThatIsPreparedAlready) {
  Model twice = Model::from(prepared("x86_inductor"));
  const Dataset data = Dataset::from_tensors(images());
  const auto quantizer = make_quantizer("x86_inductor");
  OpenVINOQuantizerOptions weights_only;
  weights_only.weights_only.emplace();
  OpenVINOQuantizer weights(weights_only);
  const std::vector<std::function<void()>> calls = {
      [&] {
        prepare_pt2e(twice, *quantizer, {{images()[0]}, {}});
      },
      [&] {
        prepare_qat_pt2e(twice, *quantizer, {{images()[0]}, {}});
      },
      [&] { quantize_pt2e(twice, *quantizer, data); },
      [&] { compress_pt2e(twice, weights); },
  };
  for (size_t i = 0; i < calls.size(); ++i) {
    const auto error = thrown_error(calls[i]);
    EXPECT_EQ(error.code(), ErrorCode::kUnsupportedModel) << i;
    EXPECT_NE(error.message().find("already prepared"), std::string::npos) << i << error.message();
  }
}

TEST(TwoStepErrors, APreparedModelHasNothingToStrip) {
  Model model = Model::from(prepared("x86_inductor"));
  const auto error = thrown_error([&] { strip(model); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupportedModel);
  EXPECT_NE(error.advice().find("tsquant convert"), std::string::npos) << error.advice();
}

TEST(TwoStepErrors, OptionsThatWouldChangeNothing) {
  auto module = prepared("x86_inductor");
  calibrate(module);
  ConvertPt2eOptions engine;
  engine.form = OutputForm::kReference;
  engine.engine = "onednn";
  EXPECT_EQ(thrown_error([&] { convert_pt2e(module, engine); }).place(), "engine");
  ConvertPt2eOptions fold;
  fold.form = OutputForm::kLowered;
  fold.fold_quantize = false;
  EXPECT_EQ(thrown_error([&] { convert_pt2e(module, fold); }).place(), "fold_quantize");
}

TEST(TwoStepModel, ObserversThatCountSayHowMuchTheySaw) {
  auto module = prepared("openvino");
  calibrate(module);
  EXPECT_EQ(convert_pt2e(module).report.samples, static_cast<int64_t>(images().size()));
}

bool wrote(const std::string& folder, const std::string& rewrite) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().stem().string().find(rewrite) != std::string::npos) return true;
  }
  return false;
}

TEST(TwoStepOptions, GraphsAreDumpedInBothSteps) {
  const std::string first = temp_dir(), second = temp_dir();
  PreparePt2eOptions prepare;
  prepare.dump_dir = first;
  auto module = prepare_pt2e(model(), *make_quantizer("x86_inductor"), {{images()[0]}, {}}, prepare);
  EXPECT_TRUE(wrote(first, "insert_observers"));
  calibrate(module);
  ConvertPt2eOptions convert;
  convert.dump_dir = second;
  convert_pt2e(module, convert);
  EXPECT_TRUE(wrote(second, "insert_qdq"));
}

TEST(TwoStepOptions, RewritesCanBeLeftOut) {
  PreparePt2eOptions prepare;
  prepare.skip_passes = {"insert_observers"};
  EXPECT_EQ(thrown_error([&] {
              prepare_pt2e(model(), *make_quantizer("x86_inductor"), {{images()[0]}, {}}, prepare);
            }).code(),
            ErrorCode::kInvalidArgument);
  auto module = prepared("x86_inductor");
  calibrate(module);
  ConvertPt2eOptions convert;
  convert.form = OutputForm::kReference;
  convert.skip_passes = {"duplicate_dequantize"};
  const auto count = [](const QuantizedModel& result) {
    return nodes_of_kind(result.model.graph()->block(), {"aten::dequantize"}).size();
  };
  const size_t fewer = count(convert_pt2e(module, convert));
  convert.skip_passes.clear();
  EXPECT_LE(fewer, count(convert_pt2e(module, convert)));
}

TEST(TwoStepOptions, WeightsMayStayInFloat) {
  auto module = prepared("x86_inductor");
  calibrate(module);
  ConvertPt2eOptions convert;
  convert.form = OutputForm::kReference;
  convert.fold_quantize = false;
  const auto floats = convert_pt2e(module, convert);
  EXPECT_FALSE(floats.model.module().attr("w1").toTensor().is_quantized());
  convert.fold_quantize = true;
  const auto codes = convert_pt2e(module, convert);
  EXPECT_TRUE(codes.model.module().attr("w1").toTensor().is_quantized());
  const Sample sample{{images()[1]}, {}};
  EXPECT_TRUE(at::equal(floats.model.run(sample).toTensor(), codes.model.run(sample).toTensor()));
}

TEST(TwoStepOptions, TheEngineAndItsCostsAreThoseOfTheLoweredForm) {
  auto module = prepared("x86_inductor");
  calibrate(module);
  ConvertPt2eOptions convert;
  convert.form = OutputForm::kLowered;
  convert.engine = "tsquant";
  convert.cost = LoweringCost::kOff;
  const auto lowered = convert_pt2e(module, convert);
  EXPECT_EQ(lowered.report.engine, "tsquant");
  EXPECT_FALSE(nodes_of_kind(lowered.model.graph()->block(), {"tsquant::conv", "tsquant::conv_add"}).empty());
  convert.engine = "none";
  EXPECT_EQ(thrown_error([&] { convert_pt2e(module, convert); }).code(), ErrorCode::kBackendUnavailable);
}

TEST(TwoStepOptions, NothingToQuantizeIsAnErrorUnlessItIsAllowed) {
  const auto nothing = [](const PreparePt2eOptions& options) {
    X86InductorQuantizer quantizer;
    return prepare_pt2e(model(), quantizer, {{images()[0]}, {}}, options);
  };
  EXPECT_EQ(thrown_error([&] { nothing({}); }).code(), ErrorCode::kUnsupportedModel);
  PreparePt2eOptions options;
  options.allow_empty = true;
  const auto result = convert_pt2e(nothing(options));
  EXPECT_EQ(result.report.quantized_count(), 0);
}

TEST(TwoStepModel, ThePreparedOneIsNotChangedByConversion) {
  auto module = prepared("x86_inductor");
  calibrate(module);
  const auto first = records(convert_pt2e(module));
  EXPECT_EQ(differing(records(convert_pt2e(module)), first), kNone);
  module.forward({images()[0] * 100});
  EXPECT_NE(differing(records(convert_pt2e(module)), first), kNone);
}

}  // namespace
}  // namespace tsquant::testing
