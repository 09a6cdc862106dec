// Activations whose parameters are computed at run time.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <tsquant/fx/quantize_fx.h>
#include <tsquant/prepare_pt2e.h>
#include <tsquant/tsquant.h>
#include <tsquant/x86_inductor_quantizer.h>
#include <tsquant/xnnpack_quantizer.h>

#include "graph/node_lists.h"
#include "support/support.h"
#include "support/thrown_error.h"

namespace tsquant::testing::dynamic {
namespace {

Model model() {
  at::manual_seed(1);
  static const Model captured = Model::from(define(R"(
def forward(self, x):
    y = torch.relu(torch.linear(x, self.w1, self.b1))
    return torch.linear(y * 0.5 - 1.0, self.w2, self.b2)
)",
                                                   {{"w1", at::randn({32, 16}) * 0.2},
                                                    {"b1", at::randn({32})},
                                                    {"w2", at::randn({8, 32}) * 0.2},
                                                    {"b2", at::randn({8})}}));
  return captured.clone();
}

Sample sample(double factor = 1) {
  at::manual_seed(3);
  return {{at::randn({5, 16}) * factor}, {}};
}

std::unique_ptr<Quantizer> make_quantizer(const std::string& name) {
  if (name == "xnnpack") {
    auto quantizer = std::make_unique<XNNPACKQuantizer>();
    quantizer->set_global(get_symmetric_quantization_config(true, /*is_qat=*/false, /*is_dynamic=*/true));
    return quantizer;
  }
  if (name == "fx") {
    fx::QConfigMapping mapping;
    mapping.set_global(fx::default_dynamic_qconfig());
    return std::make_unique<fx::FxQuantizer>(mapping);
  }
  auto quantizer = std::make_unique<X86InductorQuantizer>();
  quantizer->set_global(get_default_x86_inductor_quantization_config(/*is_qat=*/false, /*is_dynamic=*/true));
  return quantizer;
}

/// Without data: nothing is observed.
QuantizedModel converted(const std::string& quantizer, OutputForm form) {
  ConvertPt2eOptions options;
  options.form = form;
  if (form == OutputForm::kLowered) options.cost = LoweringCost::kOff;
  return convert_pt2e(prepare_pt2e(model(), *make_quantizer(quantizer), sample()), options);
}

size_t count(const QuantizedModel& result, const char* kind) {
  return nodes_of_kind(result.model.graph()->block(), {kind}).size();
}

class Dynamic : public ::testing::TestWithParam<std::string> {};

// The range of each call decides: inputs a thousand times as large lose no more.
TEST_P(Dynamic, FollowsTheRangeOfEveryCall) {
  const auto result = converted(GetParam(), OutputForm::kReference);
  EXPECT_EQ(count(result, "aten::quantize_per_tensor_dynamic"), 2U);
  for (const double factor : {1.0, 1000.0}) {
    const auto expected = model().run(sample(factor)).toTensor(), actual = result.model.run(sample(factor)).toTensor();
    EXPECT_LT(((actual - expected).norm() / expected.norm()).item<double>(), 0.03) << factor;
    EXPECT_FALSE(at::equal(actual, expected));
  }
}

TEST_P(Dynamic, AllFormsComputeTheSame) {
  const auto expected = converted(GetParam(), OutputForm::kReference).model.run(sample(7)).toTensor();
  for (const auto form : {OutputForm::kDecomposed, OutputForm::kFakeQuantize, OutputForm::kLowered}) {
    const auto result = converted(GetParam(), form);
    const auto actual = result.model.run(sample(7)).toTensor();
    EXPECT_LT(((actual - expected).norm() / expected.norm()).item<double>(), 1e-3) << static_cast<int>(form);
    result.save(temp_dir() + "/model.pt");  // loads it and compares
  }
}

TEST_P(Dynamic, LayersRunOnTheIntegerKernel) {
  const auto result = converted(GetParam(), OutputForm::kLowered);
  EXPECT_EQ(count(result, "tsquant::linear_float"), 2U);
  EXPECT_EQ(count(result, "aten::linear"), 0U);
}

INSTANTIATE_TEST_SUITE_P(Quantizers, Dynamic, ::testing::Values("x86_inductor", "xnnpack", "fx"),
                         [](const auto& info) { return info.param; });

struct RecurrentCase {
  const char* op;
  const char* call;  ///< with weights and whether there are biases
  int64_t gates, units;
  bool biases;
};

class DynamicRecurrent : public ::testing::TestWithParam<RecurrentCase> {};

// Codes of the weights in one operator; what has no kernel keeps LibTorch's.
TEST_P(DynamicRecurrent, RunsInOneKernel) {
  const auto& [op, call, gates, units, biases] = GetParam();
  at::manual_seed(6);
  const Model network =
      Model::from(define(fmt::format(R"(
def forward(self, x):
    h = torch.zeros([2, x.size(0), self.b.size(0) // {}])
    weights = [{}]
    y, hn{}, {}, 1, 0.0, False, True, True)
    return y + hn.sum() * 0.01
)",
                                     gates,
                                     biases ? "self.w, self.u, self.b, self.b, self.w, self.u, self.b, self.b"
                                            : "self.w, self.u, self.w, self.u",
                                     call, biases ? "True" : "False"),
                         {{"w", at::randn({gates * units, 6})},
                          {"u", at::randn({gates * units, units}) * 0.3},
                          {"b", at::randn({gates * units})}}));
  const Sample input{{at::randn({3, 7, 6})}, {}};
  const auto prepared =
      fx::prepare_fx(network, fx::QConfigMapping().set_global(fx::per_channel_dynamic_qconfig()), input);
  const auto reference = fx::convert_to_reference_fx(prepared), lowered = fx::convert_fx(prepared);
  EXPECT_EQ(count(lowered, fmt::format("tsquant::{}", op).c_str()), units % 8 == 0 ? 1U : 0U);
  EXPECT_EQ(count(lowered, fmt::format("aten::{}", op).c_str()), units % 8 == 0 ? 0U : 1U);
  const at::Tensor expected = reference.model.run(input).toTensor();
  EXPECT_TRUE(at::allclose(lowered.model.run(input).toTensor(), expected, 1e-5, 1e-5));
  EXPECT_FALSE(at::allclose(network.run(input).toTensor(), expected, 1e-5, 1e-5)) << "nothing was quantized";
  lowered.save(temp_dir() + "/recurrent.pt");  // loads it and compares
}

constexpr const char* kLstmCall = ", cn = torch.lstm(x, [h, h], weights";
constexpr const char* kGruCall = " = torch.gru(x, h, weights";

INSTANTIATE_TEST_SUITE_P(
    Operators, DynamicRecurrent,
    ::testing::Values(RecurrentCase{"lstm", kLstmCall, 4, 16, true}, RecurrentCase{"lstm", kLstmCall, 4, 16, false},
                      RecurrentCase{"lstm", kLstmCall, 4, 12, true}, RecurrentCase{"gru", kGruCall, 3, 16, true},
                      RecurrentCase{"gru", kGruCall, 3, 16, false}, RecurrentCase{"gru", kGruCall, 3, 12, true}),
    [](const auto& info) {
      return fmt::format("{}_{}{}", info.param.op, info.param.units, info.param.biases ? "" : "_without_biases");
    });

TEST(DynamicTraining, FakeQuantizesByTheRangeOfEachBatch) {
  X86InductorQuantizer quantizer;
  quantizer.set_global(get_default_x86_inductor_quantization_config(/*is_qat=*/true, /*is_dynamic=*/true));
  auto prepared = prepare_qat_pt2e(model(), quantizer, sample());
  for (const double factor : {1.0, 1000.0, 1.0}) {
    const auto expected = model().run(sample(factor)).toTensor();
    const auto actual = prepared.forward(sample(factor).args).toTensor().detach();
    EXPECT_LT(((actual - expected).norm() / expected.norm()).item<double>(), 0.03) << factor;
    EXPECT_FALSE(at::equal(actual, expected));
  }
  ConvertPt2eOptions options;
  options.form = OutputForm::kReference;
  EXPECT_EQ(count(convert_pt2e(prepared, options), "aten::quantize_per_tensor_dynamic"), 2U);
}

TEST(DynamicSpecs, WhatCannotBeComputedAtRunTimeIsRefused) {
  QuantizationSpec spec;
  spec.is_dynamic = true;
  spec.mode = QuantizationScheme::kAsymmetric;
  spec.dtype = c10::kByte;
  EXPECT_NO_THROW(check_spec(spec, PointKind::kActivation, "here"));
  EXPECT_EQ(thrown_error([&] { check_spec(spec, PointKind::kWeight, "here"); }).code(), ErrorCode::kInvalidArgument);
  auto limited = spec;
  limited.quant_min = 0, limited.quant_max = 100;
  EXPECT_EQ(thrown_error([&] { check_spec(limited, PointKind::kActivation, "here"); }).place(), "here");
  limited.quant_max = 127;
  EXPECT_NO_THROW(check_spec(limited, PointKind::kActivation, "here"));
  auto symmetric = spec;
  symmetric.mode = QuantizationScheme::kSymmetric;
  EXPECT_EQ(thrown_error([&] { check_spec(symmetric, PointKind::kActivation, "here"); }).code(),
            ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tsquant::testing::dynamic
