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

/// torchao's formulas of these patterns, with one rounding of products and biases. torchao truncates these towards
/// zero, but for those of an addition without a relu.
class TorchAoFormulas {
 public:
  using Rounding = at::Tensor (*)(const at::Tensor&);
  struct Scale {
    double scale;
    int64_t zero_point;
  };

  TorchAoFormulas(const QuantizedModel& reference, Rounding rounding) : rounding_(rounding) {
    for (const auto* node : nodes_of(reference, {"aten::quantize_per_tensor"})) {
      scales_.push_back({constant_of(reference.model, node->input(1))->toDouble(),
                         constant_of(reference.model, node->input(2))->toInt()});
    }
  }

  /// Codes without their zero point.
  at::Tensor centred(const at::Tensor& x, size_t i) const {
    const auto codes = at::quantize_per_tensor(x, scales_[i].scale, scales_[i].zero_point, at::kQInt8);
    return codes.int_repr().to(at::kDouble) - scales_[i].zero_point;
  }
  /// clamp(rounded(accumulated * (scale / out scale)) + zero point), as floats
  at::Tensor output(const at::Tensor& accumulated, double scale) const {
    return saturated(rounding_(accumulated * (scale / out().scale)));
  }
  at::Tensor saturated(const at::Tensor& levels, bool relu = false) const {
    const int64_t low = relu ? out().zero_point : -128;
    return (((levels + out().zero_point).clamp(low, 127) - out().zero_point) * out().scale).to(at::kFloat);
  }
  at::Tensor rounded(const at::Tensor& x) const { return rounding_(x); }
  double scale(size_t i) const { return scales_.at(i).scale; }
  const Scale& out() const { return scales_.back(); }

 private:
  Rounding rounding_;
  std::vector<Scale> scales_;
};

at::Tensor to_nearest(const at::Tensor& x) { return x.round(); }
at::Tensor towards_zero(const at::Tensor& x) { return x.trunc(); }

/// Share of codes that differ, and how far they are from the reference form's on average, in codes.
struct Deviation {
  double share, mean;
};

Deviation deviation(const at::Tensor& actual, const at::Tensor& reference, double scale) {
  const at::Tensor codes = ((actual - reference) / scale).round();
  return {(codes != 0).to(at::kDouble).mean().item<double>(), codes.abs().mean().item<double>()};
}

at::Tensor weight_codes(const QuantizedModel& reference, const char* name) {
  return reference.model.module().attr(name).toTensor().int_repr().to(at::kDouble);
}

double weight_scale(const QuantizedModel& reference, const char* name) {
  return reference.model.module().attr(name).toTensor().q_scale();
}

// Where torchao truncates, a large share of all codes is one below the float operator's; rounded, its formulas are ours
// bit for bit, and the float operator's codes but for few.
TEST(IntegerRepresentation, IsTorchAosButForTruncation) {
  at::manual_seed(5);
  const auto x = at::randn({40, 8}), image = at::randn({3, 4, 9, 9});
  const auto linear = prepared("torch.linear(x, self.v, self.c)", x, false);
  const auto conv = prepared("torch.conv2d(x, self.w, self.b)", image, false);
  const auto formula = [&](const QuantizedModel& reference, TorchAoFormulas::Rounding rounding, bool is_linear) {
    const TorchAoFormulas torchao(reference, rounding);
    const char* name = is_linear ? "v" : "w";
    const double scale = torchao.scale(0) * weight_scale(reference, name);
    const at::Tensor bias = net("x").attr(is_linear ? "c" : "b").toTensor().to(at::kDouble);
    const at::Tensor levels = torchao.rounded(bias / scale), weight = weight_codes(reference, name);
    const at::Tensor sums = is_linear ? at::linear(torchao.centred(x, 0), weight) + levels
                                      : at::conv2d(torchao.centred(image, 0), weight) + levels.reshape({-1, 1, 1});
    return torchao.output(sums, scale);
  };
  for (const bool is_linear : {true, false}) {
    SCOPED_TRACE(is_linear ? "linear" : "conv2d");
    const auto& module = is_linear ? linear : conv;
    const Sample sample{{is_linear ? x : image}, {}};
    const auto reference = convert(module, false), integers = convert(module, true);
    const auto expected = reference.model.run(sample).toTensor(), actual = integers.model.run(sample).toTensor();
    EXPECT_TRUE(at::equal(actual, formula(reference, to_nearest, is_linear)));
    const double scale = output_scale(reference);
    EXPECT_LT(deviation(actual, expected, scale).share, 0.02);
    EXPECT_GT(deviation(formula(reference, towards_zero, is_linear), expected, scale).share, 0.4);
  }
}

// torchao rounds the terms of an addition, but truncates them when a relu follows.
TEST(IntegerRepresentation, AdditionsAreTorchAosAndWithAReluTheSameClamped) {
  at::manual_seed(5);
  const auto x = at::randn(kImages);
  for (const bool relu : {false, true}) {
    const std::string sum = "x + x.flip([0])";
    const auto module = prepared(relu ? "torch.relu(" + sum + ")" : sum, x, false);
    const auto reference = convert(module, false), integers = convert(module, true);
    const auto formula = [&](TorchAoFormulas::Rounding rounding) {
      const TorchAoFormulas torchao(reference, rounding);
      const double factor = torchao.scale(0) / torchao.out().scale;
      return torchao.saturated(
          torchao.rounded(torchao.centred(x, 0) * factor) + torchao.rounded(torchao.centred(x.flip({0}), 0) * factor),
          relu);
    };
    const auto expected = reference.model.run({{x}, {}}).toTensor(), actual = integers.model.run({{x}, {}}).toTensor();
    EXPECT_TRUE(at::equal(actual, formula(to_nearest)));
    const auto rounded = deviation(actual, expected, output_scale(reference));
    const auto truncated = deviation(formula(towards_zero), expected, output_scale(reference));
    EXPECT_LT(rounded.mean, 0.7 * truncated.mean) << rounded.mean << " " << truncated.mean;
  }
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
