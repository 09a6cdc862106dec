#include <gtest/gtest.h>

#include "graph/params.h"
#include "qdq_support.h"
#include "support/rewrite.h"
#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant::testing {
namespace {

using Words = std::vector<std::string>;

const char* kConv = R"(
def forward(self, x):
    return torch.relu(torch.conv2d(x, self.weight, self.bias, [1, 1], [1, 1], [1, 1], 1))
)";

std::vector<std::pair<std::string, at::Tensor>> conv_params() {
  torch::manual_seed(1);
  return {{"weight", at::randn({4, 3, 3, 3})}, {"bias", at::randn({4})}};
}

TEST(InsertQdq, PostHookFeedsAllConsumersAndTheOutput) {
  Model model = Model::from(define("def forward(self, x):\n    y = torch.relu(x)\n    return y + torch.tanh(y), y\n"));
  insert(model, Plan().add(PointKind::kActivation, only(model, "relu"), -1, per_tensor(0.02, 3)));
  EXPECT_EQ(operators(model), (Words{"relu", "quantize_per_tensor", "dequantize", "tanh", "add", "TupleConstruct"}));
  const auto* dequantize = nodes_of_kind(model.graph()->block(), {"aten::dequantize"}).at(0);
  EXPECT_EQ(dequantize->output()->uses().size(), 3u);
  const auto x = at::randn({2, 3});
  const auto y = at::quantize_per_tensor(at::relu(x), 0.02f, 3, at::kQUInt8).dequantize();
  expect_same(c10::ivalue::Tuple::create({y + at::tanh(y), y}), model.run({{x}, {}}), 0);
}

TEST(InsertQdq, ParametersAreLiterals) {
  Model model = Model::from(define("def forward(self, x):\n    return torch.relu(x)\n"));
  insert(model, Plan().add(PointKind::kActivation, only(model, "relu"), -1, per_tensor(0.5, 7)));
  const auto* node = nodes_of_kind(model.graph()->block(), {"aten::quantize_per_tensor"}).at(0);
  EXPECT_EQ(constant_of(model, node->input(1))->toDouble(), 0.5);
  EXPECT_EQ(constant_of(model, node->input(2))->toInt(), 7);
  EXPECT_EQ(constant_of(model, node->input(3))->toInt(), static_cast<int64_t>(at::kQUInt8));
}

TEST(InsertQdq, PreHookChangesOnlyThatUse) {
  Model model = Model::from(define("def forward(self, x):\n    return torch.relu(x) + torch.tanh(x)\n"));
  insert(model, Plan().add(PointKind::kActivation, only(model, "tanh"), 0, per_tensor(0.02, 128)));
  EXPECT_EQ(operators(model), (Words{"relu", "quantize_per_tensor", "dequantize", "tanh", "add"}));
  const auto* relu = nodes_of_kind(model.graph()->block(), {"aten::relu"}).at(0);
  EXPECT_EQ(relu->input(0), model.graph()->inputs()[1]);
}

TEST(InsertQdq, EqualPreHooksShareOneQuantize) {
  const std::string source = "def forward(self, x):\n    return torch.relu(x) + torch.tanh(x)\n";
  Model same = Model::from(define(source));
  const auto q = per_tensor(0.02, 128);
  insert(same, Plan()
                   .add(PointKind::kActivation, only(same, "relu"), 0, q)
                   .add(PointKind::kActivation, only(same, "tanh"), 0, q));
  EXPECT_EQ(operators(same), (Words{"quantize_per_tensor", "dequantize", "relu", "dequantize", "tanh", "add"}));
  Model different = Model::from(define(source));
  insert(different, Plan()
                        .add(PointKind::kActivation, only(different, "relu"), 0, q)
                        .add(PointKind::kActivation, only(different, "tanh"), 0, per_tensor(0.03, 128)));
  EXPECT_EQ(count_kind(different, "aten::quantize_per_tensor"), 2u);
}

TEST(InsertQdq, BothArgumentsOfOneOperator) {
  Model model = Model::from(define("def forward(self, x):\n    return torch.add(x, x)\n"));
  const auto q = per_tensor(0.02, 128);
  insert(model, Plan()
                    .add(PointKind::kActivation, only(model, "add"), 0, q)
                    .add(PointKind::kActivation, only(model, "add"), 1, q));
  EXPECT_EQ(operators(model), (Words{"quantize_per_tensor", "dequantize", "dequantize", "add"}));
}

TEST(InsertQdq, ListArgumentsAndModelInputs) {
  Model model = Model::from(define("def forward(self, x, y):\n    return torch.cat([x, torch.relu(y)], 1)\n"));
  const auto q = per_tensor(0.02, 128);
  insert(model, Plan().add(PointKind::kActivation, "x", -1, q).add(PointKind::kActivation, only(model, "cat"), 1, q));
  EXPECT_EQ(operators(model),
            (Words{"quantize_per_tensor", "dequantize", "relu", "quantize_per_tensor", "dequantize", "cat"}));
  const auto x = at::randn({2, 3}), y = at::randn({2, 3});
  const auto snap = [](const at::Tensor& t) {
    return at::quantize_per_tensor(t, 0.02f, 128, at::kQUInt8).dequantize();
  };
  expect_same(at::cat({snap(x), snap(at::relu(y))}, 1), model.run({{x, y}, {}}), 0);
}

TEST(InsertQdq, FoldedWeightIsStoredUnderItsName) {
  Model model = Model::from(define(kConv, conv_params()));
  const auto weight = model.module().attr("weight").toTensor().clone();
  const auto q = per_channel(weight);
  insert(model, Plan().add(PointKind::kWeight, only(model, "conv2d"), 1, q));
  EXPECT_EQ(operators(model), (Words{"dequantize", "conv2d", "relu"}));
  const auto stored = model.module().attr("weight").toTensor();
  ASSERT_TRUE(stored.is_quantized());
  EXPECT_EQ(stored.scalar_type(), at::kQInt8);
  EXPECT_TRUE(at::equal(stored.int_repr(), quantize(weight, q)));
  EXPECT_TRUE(at::equal(stored.dequantize(), dequantize(quantize(weight, q), q)));
}

TEST(InsertQdq, FoldOnAndOffComputeTheSame) {
  for (const int64_t quant_max : {127, 63, 7}) {
    Model folded = Model::from(define(kConv, conv_params()));
    Model kept = Model::from(define(kConv, conv_params()));
    auto q = per_channel(conv_params()[0].second, 0, quant_max);
    q.scale = q.scale * 0.7;  // some weights saturate
    const auto activation = per_tensor(0.03, 100);
    for (Model* model : {&folded, &kept}) {
      insert(
          *model,
          Plan().add(PointKind::kWeight, only(*model, "conv2d"), 1, q).add(PointKind::kActivation, "x", -1, activation),
          model == &folded);
    }
    EXPECT_EQ(count_kind(kept, "aten::quantize_per_channel"), 1u);
    EXPECT_FALSE(kept.module().attr("weight").toTensor().is_quantized());
    const Sample sample{{at::randn({1, 3, 6, 6})}, {}};
    expect_same(folded.run(sample), kept.run(sample), 0);
  }
}

TEST(InsertQdq, NarrowActivationRangeSaturates) {
  Model model = Model::from(define("def forward(self, x):\n    return torch.relu(x)\n"));
  insert(model, Plan().add(PointKind::kActivation, "x", -1, per_tensor(0.1, 0, at::kChar, -8, 7)));
  const auto x = at::randn({100}) * 3;
  expect_same(at::relu(at::fake_quantize_per_tensor_affine(x, 0.1f, 0, -8, 7)), model.run({{x}, {}}), 1e-6);
}

TEST(InsertQdq, SharedWeightIsQuantizedOnce) {
  torch::manual_seed(2);
  const auto weight = at::randn({3, 3});
  Model model =
      Model::from(define("def forward(self, x):\n    return torch.linear(torch.linear(x, self.weight), self.weight)\n",
                         {{"weight", weight}}));
  const GraphView view(model);
  Plan plan;
  for (const auto& node : view.nodes()) {
    if (node.type == "linear") plan.add(PointKind::kWeight, node.name, 1, per_channel(weight));
  }
  ASSERT_EQ(plan.annotations.points.size(), 2u);
  insert(model, plan);
  EXPECT_TRUE(model.module().attr("weight").toTensor().is_quantized());
  const auto snapped = model.module().attr("weight").toTensor().dequantize();
  const auto x = at::randn({2, 3});
  expect_same(at::linear(at::linear(x, snapped), snapped), model.run({{x}, {}}), 0);
  EXPECT_LT(stored_bytes(model), 9 * 4 + 60);
}

TEST(InsertQdq, SharedWeightWithDifferentParametersBecomesConstants) {
  torch::manual_seed(2);
  const auto weight = at::randn({3, 3});
  Model model =
      Model::from(define("def forward(self, x):\n    return torch.linear(torch.linear(x, self.weight), self.weight)\n",
                         {{"weight", weight}}));
  const GraphView view(model);
  Plan plan;
  for (const auto& node : view.nodes()) {
    if (node.type == "linear") plan.add(PointKind::kWeight, node.name, 1, per_channel(weight, plan.qparams.size()));
  }
  insert(model, plan);
  const auto x = at::randn({2, 3});
  const auto snap = [&](int64_t axis) {
    return dequantize(quantize(weight, per_channel(weight, axis)), per_channel(weight, axis));
  };
  expect_same(at::linear(at::linear(x, snap(0)), snap(1)), model.run({{x}, {}}), 0);
}

TEST(InsertQdq, OtherReaderOfAWeightKeepsTheFloats) {
  torch::manual_seed(2);
  const auto weight = at::randn({5, 3});
  Model model = Model::from(
      define("def forward(self, ids):\n    return torch.linear(torch.embedding(self.weight, ids), self.weight)\n",
             {{"weight", weight}}));
  insert(model, Plan().add(PointKind::kWeight, only(model, "linear"), 1, per_channel(weight)));
  EXPECT_TRUE(at::equal(model.module().attr("weight").toTensor(), weight));
  const auto ids = at::arange(5);
  const auto snapped = dequantize(quantize(weight, per_channel(weight)), per_channel(weight));
  expect_same(at::linear(at::embedding(weight, ids), snapped), model.run({{ids}, {}}), 0);
}

TEST(InsertQdq, BranchesAndLoopsAreQuantizedInside) {
  const std::string source = R"(
def forward(self, x, flag: bool):
    if flag:
        y = torch.linear(x, self.weight)
    else:
        y = torch.tanh(x)
    for i in range(3):
        y = torch.relu(y) + x
    return y
)";
  torch::manual_seed(2);
  const auto weight = at::randn({3, 3});
  Model model = Model::from(define(source, {{"weight", weight}}));
  const auto q = per_tensor(0.05, 128);
  Plan plan;
  plan.add(PointKind::kWeight, only(model, "linear"), 1, per_channel(weight));
  plan.add(PointKind::kActivation, only(model, "linear"), 0, q);
  plan.add(PointKind::kActivation, only(model, "tanh"), 0, q);  // shared with the other branch
  plan.add(PointKind::kActivation, only(model, "relu"), -1, q);
  insert(model, plan);
  const auto snap = [](const at::Tensor& t) {
    return at::quantize_per_tensor(t, 0.05f, 128, at::kQUInt8).dequantize();
  };
  const auto snapped = dequantize(quantize(weight, per_channel(weight)), per_channel(weight));
  const auto x = at::randn({2, 3});
  for (const bool flag : {true, false}) {
    auto y = flag ? at::linear(snap(x), snapped) : at::tanh(snap(x));
    for (int i = 0; i < 3; ++i) y = snap(at::relu(y)) + x;
    expect_same(y, model.run({{x, flag}, {}}), 0);
  }
  // The saved module is an ordinary TorchScript archive.
  const std::string path = temp_dir() + "/model.pt";
  model.save(path);
  expect_same(model.run({{x, true}, {}}), torch::jit::load(path).forward({x, true}), 0);
}

TEST(InsertQdq, TensorWrittenLaterIsRefused) {
  Model model = Model::from(
      define("def forward(self, x):\n    y = torch.tanh(x)\n    z = torch.relu(y)\n    y.add_(1)\n    return y + z\n"));
  const auto refusals =
      insert(model, Plan().add(PointKind::kActivation, only(model, "tanh"), -1, per_tensor(0.02, 128)));
  ASSERT_EQ(refusals.size(), 1u);
  EXPECT_EQ(refusals[0].code, "written_in_place");
  EXPECT_EQ(count_kind(model, "aten::quantize_per_tensor"), 0u);
}

TEST(InsertQdq, RefusalIsAboutTheOperatorsThatAskedForTheQuantizer) {
  Model model = Model::from(
      define("def forward(self, x):\n    y = torch.tanh(x)\n    z = torch.relu(y)\n    y.add_(1)\n    return y + z\n"));
  auto plan = Plan().add(PointKind::kActivation, only(model, "tanh"), -1, per_tensor(0.02, 128));
  plan.annotations.points[0].quantized_nodes = {"/relu/0", "/add_/0"};
  const auto refusals = insert(model, plan);
  ASSERT_EQ(refusals.size(), 2u);
  EXPECT_EQ(refusals[0].node, "/relu/0");
  EXPECT_EQ(refusals[1].node, "/add_/0");
}

TEST(InsertQdq, IntegerTensorIsRefused) {
  Model model = Model::from(define("def forward(self, x):\n    return torch.mul(x, 2)\n"));
  const Sample sample{{at::arange(4)}, {}};
  const auto refusals =
      insert(model, Plan().add(PointKind::kActivation, only(model, "mul"), 0, per_tensor(0.02, 128)), true, &sample);
  ASSERT_EQ(refusals.size(), 1u);
  EXPECT_EQ(refusals[0].code, "not_floating");
}

TEST(InsertQdq, PointsWithoutParametersAreLeftOut) {
  Model model = Model::from(define("def forward(self, x):\n    return torch.relu(x)\n"));
  Plan plan;
  plan.add(PointKind::kActivation, "x", -1, per_tensor(0.02, 128));
  plan.qparams.clear();
  insert(model, plan);
  EXPECT_EQ(operators(model), (Words{"relu"}));
}

TEST(InsertQdq, UnknownNodeIsAnErrorThatNamesIt) {
  Model model = Model::from(define("def forward(self, x):\n    return torch.relu(x)\n"));
  try {
    insert(model, Plan().add(PointKind::kActivation, "rely/0", -1, per_tensor(0.02, 128)));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_EQ(error.place(), "rely/0");
  }
}

}  // namespace
}  // namespace tsquant::testing
