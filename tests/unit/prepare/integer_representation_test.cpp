// Operators written out in integers (ConvertPt2eOptions::use_reference_representation).
#include <gtest/gtest.h>
#include <tsquant/prepare_pt2e.h>
#include <tsquant/x86_inductor_quantizer.h>
#include <tsquant/xnnpack_quantizer.h>

#include <sstream>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "support/support.h"
#include "support/thrown_error.h"

namespace tsquant::testing::integers {
namespace {

using torch::jit::Module;

/// The operators of a case, the kind that must then compute with integers, and the input.
struct Case {
  const char* name;
  const char* body;
  const char* kind;
  bool per_channel;
  std::vector<int64_t> input;
};

const std::vector<int64_t> kImages{3, 4, 9, 9};

const std::vector<Case> kCases{
    {"conv2d", "torch.conv2d(x, self.w, self.b, [2, 1], [1, 1])", "aten::conv2d", true, kImages},
    {"conv2d_relu", "torch.relu(torch.conv2d(x, self.w, self.b, [1, 1], [2, 2], [2, 2]))", "aten::conv2d", true,
     kImages},
    {"depthwise", "torch.conv2d(x, self.d, None, [1, 1], [1, 1], [1, 1], 4)", "aten::conv2d", true, kImages},
    {"conv2d_per_tensor", "torch.conv2d(x, self.w, self.b)", "aten::conv2d", false, kImages},
    {"linear", "torch.linear(x, self.v, self.c)", "aten::linear", true, {20, 6, 8}},
    {"linear_relu", "torch.relu(torch.linear(x, self.v))", "aten::linear", false, {50, 8}},
    {"add", "x + x * 0.7", "aten::add", true, kImages},
    {"add_relu", "torch.relu(x + x * 0.7)", "aten::add", true, kImages},
    {"adaptive_avg_pool2d", "torch.adaptive_avg_pool2d(x, [2, 3])", "aten::adaptive_avg_pool2d", true, kImages}};

Module net(const std::string& body) {
  at::manual_seed(1);
  return define("def forward(self, x):\n    return " + body + "\n", {{"w", at::randn({5, 4, 3, 3}) * 0.2},
                                                                     {"b", at::randn({5})},
                                                                     {"d", at::randn({4, 1, 3, 3}) * 0.3},
                                                                     {"v", at::randn({6, 8}) * 0.3},
                                                                     {"c", at::randn({6})}});
}

Module prepared(const std::string& body, const at::Tensor& x, bool per_channel, bool is_dynamic = false) {
  XNNPACKQuantizer quantizer;
  quantizer.set_global(get_symmetric_quantization_config(per_channel, /*is_qat=*/false, is_dynamic));
  auto module = prepare_pt2e(Model::from(net(body)), quantizer, {{x}, {}});
  module.forward({x});
  return module;
}

QuantizedModel convert(const Module& module, bool integers, bool fold = true) {
  ConvertPt2eOptions options;
  options.form = OutputForm::kReference;
  options.use_reference_representation = integers;
  options.fold_quantize = fold;
  return convert_pt2e(module, options);
}

std::vector<torch::jit::Node*> nodes_of(const QuantizedModel& result, const std::vector<std::string>& kinds) {
  return nodes_of_kind(result.model.graph()->block(), kinds);
}

/// Only operators that are LibTorch's own, and none on quantized tensors.
void expect_plain(const QuantizedModel& result) {
  for (const auto* node : all_nodes(result.model.graph()->block())) {
    const std::string kind = node->kind().toQualString();
    EXPECT_TRUE(kind.rfind("aten::", 0) == 0 || kind.rfind("prim::", 0) == 0) << kind;
    EXPECT_EQ(kind.find("quantize"), std::string::npos) << kind;
  }
}

/// The scale of the output of a reference form.
double output_scale(const QuantizedModel& result) {
  const auto quantizers = nodes_of(result, {"aten::quantize_per_tensor"});
  return constant_of(result.model, quantizers.back()->input(1))->toDouble();
}

/// Whether the first input of an operator is cast from codes: to int64, or then to float64.
bool reads_integers(const torch::jit::Node* node) {
  const torch::jit::Node* from = node->input(0)->node();
  while (is_kind(from, "aten::to") || is_kind(from, "aten::sub") || is_kind(from, "aten::round") ||
         is_kind(from, "aten::mul")) {
    if (is_kind(from, "aten::sub")) return true;
    from = from->input(0)->node();
  }
  return false;
}

/// Saved and loaded, and frozen, the results are the same.
void expect_survives_files(const QuantizedModel& result, const at::Tensor& x) {
  const auto expected = result.model.run({{x}, {}}).toTensor();
  std::stringstream stream;
  result.model.finished_module().save(stream);
  auto loaded = torch::jit::load(stream);
  EXPECT_TRUE(at::equal(loaded.forward({x}).toTensor(), expected));
  loaded.eval();
  auto frozen = torch::jit::freeze(loaded);
  for (int call = 0; call < 3; ++call) EXPECT_TRUE(at::equal(frozen.forward({x}).toTensor(), expected));
}

class IntegerOperators : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    at::manual_seed(2);
    x_ = at::randn(GetParam().input) * 2;
  }
  at::Tensor x_;
};

// Where the scales of the products are no coarser than the output's, codes are those of the reference form or next to
// them; nearly all are the same.
TEST_P(IntegerOperators, GiveTheCodesOfTheReferenceFormOrTheNext) {
  const auto module = prepared(GetParam().body, x_, GetParam().per_channel);
  const auto reference = convert(module, false), integers = convert(module, true);
  expect_plain(integers);
  size_t computed = 0;
  for (const auto* node : nodes_of(integers, {GetParam().kind})) computed += reads_integers(node) ? 1 : 0;
  EXPECT_GE(computed, 1U) << *integers.model.graph();

  at::manual_seed(4);
  const Sample other{{x_ + at::randn_like(x_)}, {}};
  const auto expected = reference.model.run(other).toTensor(), actual = integers.model.run(other).toTensor();
  EXPECT_EQ(actual.scalar_type(), at::kFloat);
  EXPECT_EQ(actual.strides(), expected.strides());
  const auto codes = ((actual - expected) / output_scale(reference)).abs();
  EXPECT_LE(codes.max().item<double>(), 1.001);
  // The terms of a sum are rounded one by one.
  const double moved = std::string(GetParam().kind) == "aten::add" ? 0.4 : 0.02;
  EXPECT_LE((codes > 0.5).to(at::kDouble).mean().item<double>(), moved);
  EXPECT_GT(actual.abs().max().item<double>(), 0.1);
}

TEST_P(IntegerOperators, AreWhatTheFileHolds) {
  expect_survives_files(convert(prepared(GetParam().body, x_, GetParam().per_channel), true), x_);
}

INSTANTIATE_TEST_SUITE_P(Operators, IntegerOperators, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

// A quantizer that gives max_pool2d codes does so between layers.
TEST(IntegerRepresentation, PoolsCodesBetweenLayers) {
  at::manual_seed(3);
  const auto x = at::randn(kImages);
  X86InductorQuantizer quantizer;
  quantizer.set_global(get_default_x86_inductor_quantization_config());
  const std::string pooled = "torch.max_pool2d(torch.relu(torch.conv2d(x, self.w, self.b)), [3, 3], [2, 2], [1, 1])";
  auto module = prepare_pt2e(Model::from(net("torch.conv2d(" + pooled + ", self.w[:, :, :1, :1].reshape(4, 5, 1, 1))")),
                             quantizer, {{x}, {}});
  module.forward({x});
  const auto reference = convert(module, false), integers = convert(module, true);
  expect_plain(integers);
  const auto pools = nodes_of(integers, {"aten::max_pool2d"});
  ASSERT_EQ(pools.size(), 1U);
  EXPECT_TRUE(reads_integers(pools[0])) << *integers.model.graph();
  const auto expected = reference.model.run({{x}, {}}).toTensor(), actual = integers.model.run({{x}, {}}).toTensor();
  EXPECT_LT(((actual - expected).norm() / expected.norm()).item<double>(), 0.01);
  expect_survives_files(integers, x);
}

// What has no integer form computes in float on the values of the codes, bit for bit as in the reference form.
TEST(IntegerRepresentation, OtherOperatorsStayBetweenQuantizers) {
  at::manual_seed(3);
  const auto x = at::randn({2, 4, 6, 6});
  const auto module = prepared("torch.mul(torch.mul(x, x * 0.5), 3.0)", x, true);
  const auto reference = convert(module, false), integers = convert(module, true);
  EXPECT_GE(nodes_of(reference, {"aten::quantize_per_tensor"}).size(), 2U);
  EXPECT_EQ(nodes_of(integers, {"aten::round"}).size(), nodes_of(reference, {"aten::quantize_per_tensor"}).size());
  expect_plain(integers);
  EXPECT_TRUE(at::equal(integers.model.run({{x}, {}}).toTensor(), reference.model.run({{x}, {}}).toTensor()));
}

TEST(IntegerRepresentation, WeightsKeepTheirNames) {
  at::manual_seed(3);
  const auto x = at::randn(kImages);
  const auto module = prepared(kCases[0].body, x, true);
  EXPECT_EQ(convert(module, true).model.module().attr("w").toTensor().scalar_type(), at::kChar);
  EXPECT_EQ(convert(module, true, /*fold=*/false).model.module().attr("w").toTensor().scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(convert(module, true).model.run({{x}, {}}).toTensor(),
                        convert(module, true, /*fold=*/false).model.run({{x}, {}}).toTensor()));
}

// The products are exact and the bias is rounded to their scale, so that only float32 of the reference form differs.
TEST(IntegerRepresentation, LinearOnTheRangeOfEveryCall) {
  at::manual_seed(3);
  const auto x = at::randn({7, 8});
  const auto module = prepared("torch.linear(x, self.v, self.c)", x, true, /*is_dynamic=*/true);
  const auto reference = convert(module, false), integers = convert(module, true);
  expect_plain(integers);
  for (const double factor : {1.0, 1000.0}) {
    const auto expected = reference.model.run({{x * factor}, {}}).toTensor();
    const auto actual = integers.model.run({{x * factor}, {}}).toTensor();
    EXPECT_LT(((actual - expected).abs().max() / expected.abs().max()).item<double>(), 1e-4) << factor;
  }
  expect_survives_files(integers, x);
}

TEST(IntegerRepresentation, ValuesBeyondAllCodesSaturate) {
  at::manual_seed(3);
  const auto x = at::randn({4, 8});
  const auto module = prepared("torch.linear(x, self.v)", x, true);
  const auto reference = convert(module, false), integers = convert(module, true);
  const auto large = at::cat({at::full({1, 8}, 1e6), at::full({1, 8}, -1e6)});
  const auto expected = reference.model.run({{large}, {}}).toTensor();
  EXPECT_LE((integers.model.run({{large}, {}}).toTensor() - expected).abs().max().item<double>(),
            output_scale(reference) * 1.001);
  const auto beyond = integers.model.run({{at::sign(large) * 1e30}, {}}).toTensor();
  EXPECT_TRUE(at::equal(beyond, integers.model.run({{large}, {}}).toTensor()));
}

TEST(IntegerRepresentation, TheOptionAloneIsEnough) {
  at::manual_seed(3);
  const auto module = prepared(kCases[0].body, at::randn(kImages), true);
  ConvertPt2eOptions options;
  options.use_reference_representation = true;
  const auto result = convert_pt2e(module, options);
  EXPECT_EQ(result.report.form, "reference");
  const auto text = result.model.graph()->toString(false);
  EXPECT_EQ(text.find("quantize_per"), std::string::npos) << text;
  EXPECT_NE(text.find("aten::round"), std::string::npos) << text;
}

TEST(IntegerRepresentation, HasNoOtherForm) {
  at::manual_seed(3);
  const auto module = prepared(kCases[0].body, at::randn(kImages), true);
  for (const auto form : {OutputForm::kFakeQuantize, OutputForm::kLowered}) {
    ConvertPt2eOptions options;
    options.use_reference_representation = true;
    options.form = form;
    const auto error = thrown_error([&] { convert_pt2e(module, options); });
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_EQ(error.place(), "use_reference_representation");
  }
}

}  // namespace
}  // namespace tsquant::testing::integers
