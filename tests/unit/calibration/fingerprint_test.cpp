#include "calibration/fingerprint.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/support.h"

namespace tsquant {
namespace {

Model model_with(const at::Tensor& weight, const std::string& function = "relu") {
  return Model::from(
      testing::define("def forward(self, x):\n    return torch." + function + "(torch.linear(x, self.weight))\n",
                      {{"weight", weight}}));
}

std::string of(const c10::IValue& value) {
  Digest digest;
  digest.add(value);
  return digest.text();
}

TEST(Fingerprint, OfAModelKnowsCodeAndWeights) {
  const auto weight = torch::linspace(0, 1, 6).reshape({2, 3});
  const auto reference = fingerprint(model_with(weight));
  // Another class name, made by another definition of the same code.
  EXPECT_EQ(fingerprint(model_with(weight.clone())), reference);
  EXPECT_EQ(fingerprint(model_with(weight).clone()), reference);
  EXPECT_NE(fingerprint(model_with(weight, "sigmoid")), reference);
  auto changed = weight.clone();
  changed[1][2] = std::nextafter(1.0f, 2.0f);
  EXPECT_NE(fingerprint(model_with(changed)), reference);
}

TEST(Fingerprint, OfAModelKnowsItsConstants) {
  const auto with_constant = [](float value) {
    auto model = Model::from(testing::define("def forward(self, x):\n    return torch.relu(x) + self.c\n",
                                             {{"c", torch::full({1}, value)}}));
    auto* graph = model.graph().get();
    for (auto* node : graph->nodes()) {
      if (node->kind() != c10::prim::GetAttr) continue;
      const torch::jit::WithInsertPoint here(node);
      node->output()->replaceAllUsesWith(graph->insertConstant(torch::full({1}, value)));
    }
    model.module().setattr("c", torch::zeros({1}));
    return fingerprint(model);
  };
  EXPECT_EQ(with_constant(1), with_constant(1));
  EXPECT_NE(with_constant(1), with_constant(2));
}

TEST(Fingerprint, OfASampleKnowsEveryValue) {
  const auto x = torch::arange(6, at::kFloat).reshape({2, 3});
  const auto reference = fingerprint(Sample{{x, int64_t{3}}, {{"mask", torch::ones({2})}}});
  EXPECT_EQ(fingerprint(Sample{{x.t().contiguous().t(), int64_t{3}}, {{"mask", torch::ones({2})}}}), reference);
  EXPECT_NE(fingerprint(Sample{{x + 1, int64_t{3}}, {{"mask", torch::ones({2})}}}), reference);
  EXPECT_NE(fingerprint(Sample{{x, int64_t{4}}, {{"mask", torch::ones({2})}}}), reference);
  EXPECT_NE(fingerprint(Sample{{x, int64_t{3}}, {{"mask", torch::zeros({2})}}}), reference);
  EXPECT_NE(fingerprint(Sample{{x, int64_t{3}}, {{"other", torch::ones({2})}}}), reference);
  EXPECT_NE(fingerprint(Sample{{x.reshape({3, 2}), int64_t{3}}, {{"mask", torch::ones({2})}}}), reference);
}

TEST(Fingerprint, LooksIntoContainers) {
  const auto list = [](double a, double b) {
    return c10::IValue(c10::List<at::Tensor>({torch::tensor({a}), torch::tensor({b})}));
  };
  EXPECT_EQ(of(list(1, 2)), of(list(1, 2)));
  EXPECT_NE(of(list(1, 2)), of(list(2, 1)));
  const auto tuple = [](double a) { return c10::IValue(c10::ivalue::Tuple::create({torch::tensor({a}), 1.0})); };
  EXPECT_EQ(of(tuple(1)), of(tuple(1)));
  EXPECT_NE(of(tuple(1)), of(tuple(3)));
  const auto dict = [](double a) {
    c10::Dict<std::string, at::Tensor> values;
    values.insert("k", torch::tensor({a}));
    return c10::IValue(values);
  };
  EXPECT_EQ(of(dict(1)), of(dict(1)));
  EXPECT_NE(of(dict(1)), of(dict(2)));
  const auto quantized = [](double scale) {
    return c10::IValue(at::quantize_per_tensor(torch::zeros({3}) + 0.0f, scale, 0, at::kQInt8));
  };
  EXPECT_EQ(of(quantized(0.1)), of(quantized(0.1)));
  EXPECT_NE(of(c10::IValue()), of(int64_t{0}));
}

TEST(Fingerprint, LongDataAreHashedToTheEnd) {
  const auto zeros = torch::zeros({200000});
  auto last = zeros.clone(), first = zeros.clone();
  last[199999] = 1;
  first[0] = 1;
  EXPECT_EQ(of(zeros), of(zeros.clone()));
  EXPECT_NE(of(zeros), of(last));
  EXPECT_NE(of(zeros), of(first));
  EXPECT_NE(of(first), of(last));
}

TEST(Fingerprint, OfAnnotationsKnowsPlacesAndSpecs) {
  Annotations annotations;
  annotations.points.resize(1);
  annotations.points[0].node = "relu";
  const auto reference = fingerprint(annotations);
  auto changed = annotations;
  changed.points[0].spec.format = Format::kInt4;
  EXPECT_NE(fingerprint(changed), reference);
  changed = annotations;
  changed.points[0].input_port = 0;
  EXPECT_NE(fingerprint(changed), reference);
  // Weights are read from the model each time.
  changed = annotations;
  changed.points.push_back({});
  changed.points[1].kind = PointKind::kWeight;
  EXPECT_EQ(fingerprint(changed), reference);
}

}  // namespace
}  // namespace tsquant
