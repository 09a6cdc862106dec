#include <gtest/gtest.h>
#include <tsquant/strip.h>
#include <tsquant/tsquant.h>

#include "graph/node_lists.h"
#include "lowering/lowering.h"
#include "support/support.h"
#include "support/thrown_error.h"

namespace tsquant::testing::strip_test {
namespace {

using Kinds = std::vector<std::string>;

/// What torch.ao's quantization-aware training leaves: fake quantizes with parameters in buffers and in the code.
torch::jit::Module trained() {
  at::manual_seed(1);
  return define(
      R"(
def forward(self, x):
    x = torch.fake_quantize_per_tensor_affine(x, self.act_scale, self.act_zero_point, 0, 255)
    w = torch.fake_quantize_per_channel_affine(self.w1, self.w1_scale, self.w1_zero_point, 0, -127, 127)
    y = torch.relu(torch.conv2d(x, w, self.b1, [1, 1], [1, 1]))
    y = torch.fake_quantize_per_tensor_affine(y, 0.03, 0, 0, 255)
    v = torch.fake_quantize_per_tensor_affine(self.w2, 0.2, 3, -8, 7)
    return torch.linear(torch.flatten(torch.adaptive_avg_pool2d(y, [1, 1]), 1), v, self.b2)
)",
      {{"w1", at::randn({8, 3, 3, 3})},
       {"b1", at::randn({8})},
       {"w2", at::randn({10, 8})},
       {"b2", at::randn({10})},
       {"act_scale", at::tensor({0.05f})},
       {"act_zero_point", at::zeros({1}, at::kInt) + 100},
       {"w1_scale", at::rand({8}) * 0.02 + 0.01},
       {"w1_zero_point", at::zeros({8}, at::kInt)}});
}

at::Tensor image() {
  at::manual_seed(2);
  return at::randn({2, 3, 12, 12});
}

at::Tensor output(const Model& model) { return model.run({{image()}, {}}).toTensor(); }

size_t count(const Model& model, const Kinds& kinds) { return nodes_of_kind(model.graph()->block(), kinds).size(); }

const Kinds kFakeQuantizes{"aten::fake_quantize_per_tensor_affine", "aten::fake_quantize_per_channel_affine"};
const Kinds kDequantizes{"aten::dequantize", "quantized_decomposed::dequantize_per_tensor",
                         "quantized_decomposed::dequantize_per_channel"};

torch::jit::Module float_net() {
  at::manual_seed(3);
  return define(
      R"(
def forward(self, x):
    y = torch.relu(torch.conv2d(x, self.w1, self.b1, [1, 1], [1, 1]))
    return torch.linear(torch.flatten(torch.adaptive_avg_pool2d(y, [1, 1]), 1), self.w2, self.b2)
)",
      {{"w1", at::randn({8, 3, 3, 3})}, {"b1", at::randn({8})}, {"w2", at::randn({10, 8})}, {"b2", at::randn({10})}});
}

Model quantized(OutputForm form, bool fold = true, const OpenVINOQuantizerOptions& quantizer_options = {}) {
  auto model = Model::from(float_net());
  OpenVINOQuantizer quantizer(quantizer_options);
  QuantizePt2eOptions options;
  options.form = form;
  options.fold_quantize = fold;
  return quantize_pt2e(model, quantizer, Dataset::from_tensors({image()}), options).model;
}

/// Also through a file, because a graph that cannot be written is no result.
at::Tensor output_after_saving(const Model& model) {
  const std::string path = temp_dir() + "/stripped.pt";
  model.save(path);
  return output(Model::load(path));
}

at::Tensor tensor_of(const Model& model, const std::string& name) { return model.module().attr(name).toTensor(); }

TEST(Strip, DqKeepsCodesInsteadOfFloatWeights) {
  auto model = Model::from(trained());
  const auto expected = output(model);
  const auto result = strip(model, true, StripFormat::kDq);
  EXPECT_TRUE(at::equal(output(result), expected));
  EXPECT_TRUE(at::equal(output_after_saving(result), expected));
  EXPECT_EQ(count(result, kFakeQuantizes), 2u) << "the two of activations";
  EXPECT_EQ(count(result, {"aten::dequantize"}), 2u);
  EXPECT_EQ(tensor_of(result, "w1").scalar_type(), c10::kQInt8);
  EXPECT_EQ(tensor_of(result, "w1").qscheme(), c10::kPerChannelAffine);
  const auto codes = tensor_of(result, "w2").int_repr();
  EXPECT_EQ(codes.min().item<int64_t>(), -8);
  EXPECT_LE(codes.max().item<int64_t>(), 7);
  EXPECT_TRUE(result.warnings().empty());
  // The model that was given is not changed.
  EXPECT_EQ(tensor_of(model, "w1").scalar_type(), c10::kFloat);
  EXPECT_EQ(count(model, kFakeQuantizes), 4u);
}

TEST(Strip, InPlaceAppliesTheWeightQuantizers) {
  auto model = Model::from(trained());
  const auto expected = output(model);
  const auto result = strip(model, true, StripFormat::kInPlace);
  EXPECT_TRUE(at::equal(output_after_saving(result), expected));
  EXPECT_EQ(count(result, kFakeQuantizes), 2u) << "the two of activations";
  EXPECT_EQ(count(result, kDequantizes), 0u);
  const auto applied = at::fake_quantize_per_tensor_affine(tensor_of(model, "w2"), 0.2, 3, -8, 7);
  EXPECT_TRUE(at::equal(tensor_of(result, "w2"), applied));
  EXPECT_EQ(tensor_of(result, "w1_scale").numel(), 0) << "nobody reads the quantizer's buffer any more";
}

TEST(Strip, NativeLeavesFakeQuantizesAsTheyAre) {
  auto model = Model::from(trained());
  const auto result = strip(model);
  EXPECT_EQ(count(result, kFakeQuantizes), 4u);
  EXPECT_TRUE(at::equal(output_after_saving(result), output(model)));
}

TEST(Strip, NativeFromEveryFormNeedsOnlyLibTorch) {
  for (const bool fold : {true, false}) {
    for (const auto form : {OutputForm::kDecomposed, OutputForm::kReference, OutputForm::kFakeQuantize}) {
      auto model = quantized(form, fold);
      const auto result = strip(model);
      EXPECT_EQ(count(result, kFakeQuantizes), 5u) << "three activations, two weights";
      EXPECT_EQ(count(result, kDequantizes), 0u);
      for (const auto* node : all_nodes(result.graph()->block())) {
        const std::string space = node->kind().ns().toUnqualString();
        EXPECT_TRUE(space == "aten" || space == "prim") << node->kind().toQualString();
      }
      EXPECT_EQ(tensor_of(result, "w1").scalar_type(), c10::kFloat);
      // A value between two codes may round to either: one step of an activation per layer.
      const auto a = output_after_saving(result), b = output(model);
      EXPECT_LT(((a - b).norm() / b.norm()).item<double>(), 0.01);
    }
  }
}

TEST(Strip, DqFoldsWeightsThatWereQuantizedWhileRunning) {
  for (const auto form : {OutputForm::kDecomposed, OutputForm::kReference}) {
    auto model = quantized(form, /*fold=*/false);
    EXPECT_EQ(tensor_of(model, "w1").scalar_type(), c10::kFloat);
    const auto result = strip(model, true, StripFormat::kDq);
    EXPECT_TRUE(at::equal(output_after_saving(result), output(model)));
    EXPECT_EQ(tensor_of(result, "w1").scalar_type(), form == OutputForm::kReference ? c10::kQInt8 : c10::kChar);
    // Folded models have codes already.
    auto folded = quantized(form);
    EXPECT_TRUE(at::equal(output(strip(folded, true, StripFormat::kDq)), output(folded)));
    EXPECT_EQ(stored_bytes(result), stored_bytes(folded));
  }
}

TEST(Strip, InPlaceFromEveryForm) {
  for (const bool fold : {true, false}) {
    for (const auto form : {OutputForm::kDecomposed, OutputForm::kReference, OutputForm::kFakeQuantize}) {
      auto model = quantized(form, fold);
      const auto result = strip(model, true, StripFormat::kInPlace);
      EXPECT_TRUE(at::equal(output_after_saving(result), output(model)));
      EXPECT_EQ(tensor_of(result, "w1").scalar_type(), c10::kFloat);
      EXPECT_EQ(count(result, kFakeQuantizes) + count(result, kDequantizes), 3u) << "activations only";
    }
  }
}

TEST(Strip, Fp8WeightsCanBeAppliedButNotMadeNative) {
  OpenVINOQuantizerOptions options;
  options.mode = QuantizationMode::kFP8E4M3;
  auto model = quantized(OutputForm::kDecomposed, true, options);
  const auto error = thrown_error([&] { strip(model); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupportedModel);
  EXPECT_NE(error.message().find("tsquant::quantize_fp8"), std::string::npos) << error.what();
  const auto result = strip(model, true, StripFormat::kInPlace);
  EXPECT_TRUE(at::equal(output_after_saving(result), output(model)));
  EXPECT_EQ(count(result, {"tsquant::dequantize_fp8"}), 3u) << "activations only";
}

TEST(Strip, LoweredModelsAreRefused) {
  auto model = quantized(OutputForm::kLowered);
  for (const auto format : {StripFormat::kNative, StripFormat::kDq, StripFormat::kInPlace}) {
    const auto error = thrown_error([&] { strip(model, true, format); });
    EXPECT_EQ(error.code(), ErrorCode::kUnsupportedModel);
    EXPECT_NE(error.message().find(" is an integer kernel, from which no quantizer can be stripped"), std::string::npos)
        << error.what();
  }
}

TEST(Strip, AFloatModelGetsAWarning) {
  auto model = Model::from(float_net());
  for (const auto format : {StripFormat::kNative, StripFormat::kDq, StripFormat::kInPlace}) {
    const auto result = strip(model, true, format);
    ASSERT_EQ(result.warnings().size(), 1u);
    EXPECT_EQ(result.warnings()[0], "strip: the model has no quantizers, so there is nothing to strip");
    EXPECT_TRUE(at::equal(output(result), output(model)));
  }
}

TEST(Strip, WithoutACopyTheModelItselfIsEdited) {
  auto model = Model::from(trained());
  const auto expected = output(model);
  strip(model, /*do_copy=*/false, StripFormat::kDq);
  EXPECT_EQ(tensor_of(model, "w1").scalar_type(), c10::kQInt8);
  EXPECT_TRUE(at::equal(output(model), expected));
}

torch::jit::Module shared(const std::string& second_scale) {
  at::manual_seed(4);
  return define(R"(
def forward(self, x):
    a = torch.linear(x, torch.fake_quantize_per_tensor_affine(self.w, 0.05, 0, -128, 127))
    return torch.linear(a, torch.fake_quantize_per_tensor_affine(self.w, )" +
                    second_scale + R"(, 0, -128, 127)) + x
)",
                {{"w", at::randn({6, 6})}});
}

TEST(Strip, ASharedWeightIsStoredOnceWhenItsQuantizersAgree) {
  at::manual_seed(5);
  const Sample sample{{at::randn({3, 6})}, {}};
  const auto stored = [](const Model& model) {
    int64_t quantized = model.module().attr("w").toTensor().is_quantized();
    for (const auto* node : nodes_of_kind(model.graph()->block(), {"prim::Constant"})) {
      quantized +=
          node->hasAttribute(c10::attr::value) && node->kindOf(c10::attr::value) == torch::jit::AttributeKind::t;
    }
    return quantized;
  };
  for (const auto format : {StripFormat::kDq, StripFormat::kInPlace}) {
    auto same = Model::from(shared("0.05")), different = Model::from(shared("0.02"));
    const auto one = strip(same, true, format), two = strip(different, true, format);
    EXPECT_TRUE(at::equal(one.run(sample).toTensor(), same.run(sample).toTensor()));
    EXPECT_TRUE(at::equal(two.run(sample).toTensor(), different.run(sample).toTensor()));
    if (format == StripFormat::kDq) {
      EXPECT_EQ(stored(one), 1);
      EXPECT_EQ(stored(two), 2);
    }
  }
}

QuantizedModel quantized_net(OutputForm form) {
  Model net = Model::from(float_net());
  OpenVINOQuantizer quantizer;
  QuantizePt2eOptions options;
  options.form = form;
  if (form == OutputForm::kLowered) options.cost = LoweringCost::kOff;
  return quantize_pt2e(net, quantizer, Dataset::from_tensors({image()}), options);
}

TEST(Strip, WarningsNameOperatorsAndNotValuesOfTheGraph) {
  auto quantized = quantized_net(OutputForm::kDecomposed);
  auto graph = quantized.model.graph();
  for (auto* node : nodes_of_kind(graph->block(), {"quantized_decomposed::quantize_per_tensor"})) {
    const torch::jit::WithInsertPoint guard(node);
    node->replaceInput(1, graph->insertConstant(0.123));  // not the scale of the dequantize
  }
  const auto stripped = strip(quantized.model, true, StripFormat::kNative);
  ASSERT_FALSE(stripped.warnings().empty());
  for (const auto& warning : stripped.warnings()) {
    EXPECT_NE(warning.find("its two operators differ"), std::string::npos) << warning;
    EXPECT_EQ(warning.find('%'), std::string::npos) << warning;
  }
  EXPECT_NE(stripped.warnings().back().find("the quantizer at /adaptive_avg_pool2d/0"), std::string::npos)
      << stripped.warnings().back();
}

TEST(Strip, IntegerKernelsAreNamedAsOperators) {
  auto lowered = quantized_net(OutputForm::kLowered);
  const auto error = thrown_error([&] { strip(lowered.model, true, StripFormat::kNative); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupportedModel);
  EXPECT_EQ(error.place().find('%'), std::string::npos) << error.what();
  EXPECT_EQ(error.place(), "/conv2d/0") << error.what();
}

TEST(Strip, WhatCannotBeConvertedIsNamed) {
  auto model = Model::from(define(R"(
def forward(self, x):
    w = torch.fake_quantize_per_tensor_affine(self.w, x.abs().max() / 127, self.z, -128, 127)
    return torch.linear(x, w)
)",
                                  {{"w", at::randn({4, 4})}, {"z", at::zeros({1}, at::kInt)}}));
  for (const auto format : {StripFormat::kDq, StripFormat::kInPlace}) {
    const auto result = strip(model, true, format);
    ASSERT_EQ(result.warnings().size(), 1u);
    EXPECT_NE(result.warnings()[0].find("the quantizer at w stays: its parameters are computed"), std::string::npos)
        << result.warnings()[0];
    EXPECT_EQ(count(result, kFakeQuantizes), 1u);
  }
  auto wide = Model::from(define(R"(
def forward(self, x):
    return torch.linear(x, torch.fake_quantize_per_tensor_affine(self.w, 0.001, 0, -32768, 32767))
)",
                                 {{"w", at::randn({4, 4})}}));
  const auto error = thrown_error([&] { strip(wide, true, StripFormat::kDq); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupportedModel);
  EXPECT_EQ(error.place(), "w");
  EXPECT_NE(error.message().find("codes from -32768 to 32767"), std::string::npos) << error.what();
  EXPECT_EQ(count(strip(wide, true, StripFormat::kInPlace), kFakeQuantizes), 0u);
}

}  // namespace
}  // namespace tsquant::testing::strip_test
