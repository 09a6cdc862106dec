// A compressed model in its other form, and as a float one.
#include <gtest/gtest.h>

#include "graph/node_lists.h"
#include "small_lm.h"
#include "support/thrown_error.h"
#include "tsquant/strip.h"

namespace tsquant {
namespace {

using Mode = CompressWeightsMode;
using testing::thrown_error;

/// Layers of every kind that compression knows, with weights of one type.
Model layers_of(c10::ScalarType type) {
  at::manual_seed(9);
  const auto module = testing::define(R"(
    def forward(self, x: Tensor) -> Tensor:
      y = torch.linear(x, self.a)
      y = torch.matmul(y, self.b)
      y = torch.conv1d(y.unsqueeze(2), self.c, None)
      return torch.linear(y.squeeze(2), self.d, self.bias)
  )",
                                      {{"a", (at::randn({32, 32}) / 6).to(type)},
                                       {"b", (at::randn({32, 32}) / 6).to(type)},
                                       {"c", (at::randn({32, 32, 1}) / 6).to(type)},
                                       {"d", (at::randn({16, 32}) / 6).to(type)},
                                       {"bias", at::randn({16}).to(type)}});
  return Model::from(module);
}

Model compressed(c10::ScalarType type, OutputForm form, Mode mode) {
  CompressWeightsOptions options;
  options.mode = mode;
  options.form = form;
  if (mode != Mode::kInt8Asym) {
    options.group_size = 16;
    options.all_layers = true;
  }
  Model model = layers_of(type);
  return compress_weights(model, options).model;
}

at::Tensor result_of(const Model& model, c10::ScalarType type) {
  at::manual_seed(4);
  return model.run(Sample{{at::randn({5, 32}).to(type)}, {}}).toTensor();
}

int64_t count_fused(const Model& model) {
  int64_t count = 0;
  for (const auto* node : all_nodes(model.graph()->block())) {
    count += std::string(node->kind().ns().toUnqualString()) == "tsquant";
  }
  return count;
}

TEST(ConvertForm, EveryTypeOfWeightsComesBack) {
  // LibTorch has no convolution of halves on processors.
  for (const auto type : {c10::kFloat, c10::kBFloat16, c10::kDouble}) {
    for (const Mode mode : {Mode::kInt8Asym, Mode::kInt4Sym, Mode::kInt3Asym, Mode::kNf4}) {
      Model reference = compressed(type, OutputForm::kReference, mode);
      Model lowered = compressed(type, OutputForm::kLowered, mode);
      Model back = convert_form(lowered, OutputForm::kReference);
      EXPECT_EQ(count_fused(back), 0);
      EXPECT_EQ(result_of(back, type).scalar_type(), type);
      // The matrix of the product comes back as [out, in]: sums of bfloat16 are made in another order.
      const double within = type == c10::kBFloat16 ? 0.05 : 0;
      EXPECT_TRUE(at::allclose(result_of(back, type), result_of(reference, type), within, within)) << type;
      const Model values = strip(back, true, StripFormat::kInPlace),
                  expected = strip(reference, true, StripFormat::kInPlace);
      for (const char* name : {"a", "b", "c", "d"}) {
        const at::Tensor value = values.module().attr(name).toTensor(), other = expected.module().attr(name).toTensor();
        EXPECT_EQ(value.scalar_type(), type) << name;
        const bool transposed = std::string(name) == "b" && type != c10::kDouble;
        EXPECT_TRUE(at::equal(value, transposed ? other.t() : other)) << name;
      }
      Model again = convert_form(back, OutputForm::kLowered);
      EXPECT_EQ(count_fused(again), count_fused(lowered));
      EXPECT_TRUE(at::equal(result_of(again, type), result_of(lowered, type))) << type;
      EXPECT_EQ(count_fused(lowered), type == c10::kDouble ? 0 : 4) << "the given model was edited";
    }
  }
}

TEST(ConvertForm, NamesAndBytesOfTensorsStay) {
  Model reference = compressed(c10::kFloat, OutputForm::kReference, Mode::kInt4Asym);
  Model there = convert_form(reference, OutputForm::kLowered);
  const Model back = convert_form(there, OutputForm::kReference);
  for (const std::string name : {"a", "c", "d"}) {
    for (const std::string part : {"", "_scale", "_zero_point"}) {
      EXPECT_TRUE(
          at::equal(back.module().attr(name + part).toTensor(), reference.module().attr(name + part).toTensor()))
          << name << part;
    }
  }
}

TEST(ConvertForm, TypesComeBackBesideWeightsThatNoFusedOperatorReads) {
  // A weight that is read by index, too, stays with plain operators, whose scales have another type than the weights.
  at::manual_seed(10);
  Model model = Model::from(testing::define(R"(
    def forward(self, x: Tensor) -> Tensor:
      y = torch.conv2d(x, self.c)
      return torch.linear(torch.index_select(self.t, 0, torch.argmax(torch.flatten(y, 1), 1)), self.t)
  )",
                                            {{"t", at::randn({100, 8})}, {"c", at::randn({4, 8, 1, 1})}}));
  CompressWeightsOptions options;
  options.form = OutputForm::kReference;
  const Model reference = compress_weights(model, options).model;
  options.form = OutputForm::kLowered;
  Model lowered = compress_weights(model, options).model;
  ASSERT_EQ(count_fused(lowered), 1);
  const Model back = convert_form(lowered, OutputForm::kReference);
  const Sample sample{{at::randn({1, 8, 5, 5})}, {}};
  EXPECT_TRUE(at::equal(back.run(sample).toTensor(), reference.run(sample).toTensor()));
}

TEST(ConvertForm, RefusesOtherFormsAndModels) {
  Model model = layers_of(c10::kFloat);
  EXPECT_EQ(thrown_error([&] { convert_form(model, OutputForm::kLowered); }).code(), ErrorCode::kUnsupportedModel);
  Model small = compressed(c10::kFloat, OutputForm::kReference, Mode::kInt8Asym);
  EXPECT_EQ(thrown_error([&] { convert_form(small, OutputForm::kDecomposed); }).code(), ErrorCode::kInvalidArgument);
  const Model same = convert_form(small, OutputForm::kReference);
  EXPECT_TRUE(at::equal(result_of(same, c10::kFloat), result_of(small, c10::kFloat)));
}

TEST(StripCompressed, InPlaceGivesFloatWeights) {
  for (const auto form : {OutputForm::kReference, OutputForm::kLowered}) {
    Model model = compressed(c10::kBFloat16, form, Mode::kInt4Sym);
    const Model reference = convert_form(model, OutputForm::kReference);
    const Model floats = strip(model, /*do_copy=*/true, StripFormat::kInPlace);
    EXPECT_TRUE(floats.warnings().empty());
    EXPECT_EQ(floats.module().attr("a").toTensor().scalar_type(), c10::kBFloat16);
    EXPECT_EQ(floats.module().attr("a_scale").toTensor().numel(), 0) << "nothing reads it any more";
    EXPECT_TRUE(at::equal(result_of(floats, c10::kBFloat16), result_of(reference, c10::kBFloat16)));
    const Model native = strip(model);
    EXPECT_EQ(count_fused(native), 0);
    EXPECT_TRUE(at::equal(result_of(native, c10::kBFloat16), result_of(reference, c10::kBFloat16)));
  }
}

}  // namespace
}  // namespace tsquant
