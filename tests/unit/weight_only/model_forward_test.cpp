#include "support/thrown_error.h"
#include "test_models.h"
#include "tsquant/weight_only.h"

namespace tsquant::testing {
namespace {

using torch::jit::Module;

TEST(MoveInputToDevice, KeepsContainersAndOtherValues) {
  const auto x = at::ones({2}), y = at::zeros({3});
  c10::Dict<std::string, at::Tensor> dict;
  dict.insert("y", y);
  const c10::IValue input = c10::ivalue::Tuple::create(c10::List<at::Tensor>({x}), dict, 3, "word", c10::IValue());
  const auto moved = move_input_to_device(input, at::kMeta).toTupleRef().elements().vec();
  ASSERT_EQ(moved.size(), 5u);
  EXPECT_TRUE(moved[0].isTensorList());
  EXPECT_TRUE(moved[0].toTensorVector()[0].is_meta());
  EXPECT_EQ(*moved[1].type(), *input.toTupleRef().elements()[1].type());
  EXPECT_TRUE(moved[1].toGenericDict().at("y").toTensor().is_meta());
  EXPECT_EQ(moved[2].toInt(), 3);
  EXPECT_EQ(moved[3].toStringRef(), "word");
  EXPECT_TRUE(moved[4].isNone());
  EXPECT_TRUE(move_input_to_device(x).toTensor().is_same(x));
}

TEST(ForwardWrapper, SpreadsWhatForwardTakes) {
  Module two = define("def forward(self, x, y):\n  return x - y\n");
  Module list = define("def forward(self, x: List[Tensor]):\n  return x[0] * 2\n");
  const auto x = at::full({1}, 5.0F), y = at::ones({1});
  c10::Dict<std::string, at::Tensor> dict;
  dict.insert("y", x);
  dict.insert("x", y);
  const auto value = [](const c10::IValue& result) { return result.toTensor().item<float>(); };
  EXPECT_EQ(value(forward_wrapper(two, c10::ivalue::Tuple::create(x, y))), 4);
  EXPECT_EQ(value(forward_wrapper(two, c10::List<at::Tensor>({x, y}))), 4);
  EXPECT_EQ(value(forward_wrapper(two, dict)), -4);
  EXPECT_EQ(value(forward_wrapper(list, c10::List<at::Tensor>({x, y}))), 10);
  Module one = define("def forward(self, x):\n  return x + 1\n");
  EXPECT_EQ(value(forward_wrapper(one, x)), 6);
}

TEST(ForwardWrapper, TakesNoGradients) {
  Module model = define("def forward(self, x):\n  return x * self.w\n", {{"w", at::ones({1}).requires_grad_()}});
  EXPECT_FALSE(forward_wrapper(model, at::ones({1})).toTensor().requires_grad());
}

TEST(ForwardWrapper, SaysWhatTheModelRejects) {
  Module model = define("def forward(self, x):\n  return torch.matmul(x, self.w)\n", {{"w", at::ones({4, 2})}});
  const Error error = thrown_error([&] { forward_wrapper(model, at::ones({3, 3})); });
  EXPECT_EQ(error.code(), ErrorCode::kDataset);
  EXPECT_NE(error.message().find("3x3 and 4x2"), std::string::npos);
  EXPECT_EQ(error.message().find("Traceback"), std::string::npos);
  EXPECT_EQ(thrown_error([&] { forward_wrapper(model, 3); }).code(), ErrorCode::kDataset);
}

/// A model that counts its runs in a buffer.
Module counting(const std::string& arguments) {
  return define("def forward(self, " + arguments + "):\n  self.count.add_(1)\n  self.sum.add_(x.sum())\n  return x\n",
                {{"count", at::zeros({})}, {"sum", at::zeros({})}});
}

float number(const Module& model, const char* name) { return model.attr(name).toTensor().item<float>(); }

TEST(ModelForward, RunsAsManyItemsAsAsked) {
  const auto data = Dataset::from_tensors({at::ones({1}), at::full({1}, 2.0F), at::full({1}, 4.0F)});
  Module model = counting("x");
  model_forward(model, data);
  EXPECT_EQ(number(model, "count"), 3);
  EXPECT_EQ(number(model, "sum"), 7);
  model_forward(model, data, 2);
  EXPECT_EQ(number(model, "count"), 5);
  EXPECT_EQ(number(model, "sum"), 10);
  model_forward(model, data, 9);
  EXPECT_EQ(number(model, "count"), 8);
  for (const int64_t iters : {0, -2}) {
    EXPECT_EQ(thrown_error([&] { model_forward(model, data, iters); }).place(), "iters");
  }
}

TEST(ModelForward, LeavesLabelsOutWhereForwardTakesTheInputAlone) {
  const std::vector<std::pair<at::Tensor, at::Tensor>> pairs(2, {at::ones({1}), at::full({1}, 7.0F)});
  Module one = counting("x");
  model_forward(one, Dataset(pairs));
  EXPECT_EQ(number(one, "sum"), 2);
  Module two = define("def forward(self, x, y):\n  self.sum.add_(y.sum())\n  return x\n", {{"sum", at::zeros({})}});
  model_forward(two, Dataset(pairs));
  EXPECT_EQ(number(two, "sum"), 14);
}

TEST(ModelForward, AnItemThatFailsIsNotRunAgain) {
  const auto data = Dataset::from_tensors({at::ones({2}), at::ones({3})});
  Module model =
      define("def forward(self, x):\n  self.count.add_(1)\n  return x + torch.ones(2)\n", {{"count", at::zeros({})}});
  EXPECT_EQ(thrown_error([&] { model_forward(model, data); }).code(), ErrorCode::kDataset);
  EXPECT_EQ(number(model, "count"), 2);
}

TEST(ModelForward, RefusesDevicesThatAreNotThere) {
  if (at::hasCUDA()) GTEST_SKIP() << "there is CUDA";
  Module model = define("def forward(self, x):\n  return x * self.w\n", {{"w", at::ones({1})}});
  EXPECT_EQ(thrown_error([&] { forward_wrapper(model, at::ones({1}), at::kCUDA); }).code(),
            ErrorCode::kBackendUnavailable);
}

TEST(GetExampleInput, IsTheSecondItemOrTheLast) {
  std::vector<std::pair<at::Tensor, int64_t>> labelled;
  std::vector<at::Tensor> plain;
  for (int i = 0; i < 4; ++i) {
    labelled.emplace_back(at::full({1}, i), 9);
    plain.push_back(at::full({1}, i));
  }
  const auto value = [](const Sample& sample) {
    EXPECT_EQ(sample.args.size(), 1u);
    return sample.args.at(0).toTensor().item<int64_t>();
  };
  for (const auto& data : {Dataset(labelled), Dataset::from_tensors(plain)}) {
    EXPECT_EQ(value(get_example_input(data)), 1);
    EXPECT_EQ(value(get_example_input(data, 0)), 0);
    EXPECT_EQ(value(get_example_input(data, 3)), 3);
    EXPECT_EQ(value(get_example_input(data, 9)), 3);
  }
  EXPECT_EQ(thrown_error([] { get_example_input(Dataset::from_tensors({})); }).code(), ErrorCode::kDataset);
  EXPECT_EQ(thrown_error([&] { get_example_input(Dataset(labelled), -1); }).place(), "i");
}

}  // namespace
}  // namespace tsquant::testing
