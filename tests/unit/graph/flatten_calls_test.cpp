#include "graph/flatten_calls.h"

#include <gtest/gtest.h>

#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "support/rewrite.h"
#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant::testing::flatten_calls_test {
namespace {

std::string model_file(const std::string& name) { return data_file("traces/calls/" + name + ".pt"); }

Model load(const std::string& name) { return Model::load(model_file(name)); }

std::vector<std::string> convolutions(const Model& model) {
  std::vector<std::string> names;
  for (const auto* node : nodes_of_kind(model.graph()->block(), {"aten::conv2d", "aten::_convolution"})) {
    names.push_back(names_of(node).name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

using Names = std::vector<std::string>;

struct Case {
  const char* model;
  Names convolutions;  ///< sorted
};

class CallModel : public ::testing::TestWithParam<Case> {};

TEST_P(CallModel, BecomesOneGraphThatComputesTheSameAndCanBeSaved) {
  const Case& expected = GetParam();
  const Model model = load(expected.model);
  EXPECT_EQ(convolutions(model), expected.convolutions) << *model.graph();
  for (const char* kind : {"prim::fork", "aten::wait", "prim::CallMethod", "prim::CallFunction"}) {
    EXPECT_EQ(count_kind(model, kind), 0) << kind;
  }
  model.graph()->lint();
  at::manual_seed(3);
  const at::Tensor x = at::randn({2, 3, 10, 10});
  auto original = torch::jit::load(model_file(expected.model));
  const c10::IValue wanted = original.forward({x});
  expect_same(wanted, model.run({{x}, {}}), 0);
  const std::string path = temp_dir() + "/copy.pt";
  model.save(path);
  expect_same(wanted, torch::jit::load(path).forward({x}), 0);
  // The graph inside a fork must not have become that of the copy.
  expect_same(wanted, original.forward({x}), 0);
  original.save(path);
}

INSTANTIATE_TEST_SUITE_P(
    Graph, CallModel,
    ::testing::Values(
        Case{"Fork", {"a/conv2d/0", "b/conv2d/0", "c/conv2d/0"}},
        Case{"ForkTraced", {"a/conv2d/0", "b/conv2d/0", "c/conv2d/0"}},
        Case{"ForkNested", {"c/conv2d/0", "p/c/conv2d/0", "p/d/conv2d/0", "q/c/conv2d/0", "q/d/conv2d/0"}},
        Case{"ForkList",
             {"c/conv2d/0", "c/conv2d/1", "c/conv2d/2", "c/conv2d/3", "d/conv2d/0", "d/conv2d/1", "d/conv2d/2"}},
        Case{"ForkControl", {"c/conv2d/0", "m/conv2d/0", "m/conv2d/1"}},
        Case{"ForkFunction", {"/conv2d/0", "c/conv2d/0"}},
        Case{"Interface", {"act/c/conv2d/0", "i/conv2d/0", "o/conv2d/0"}},
        Case{"InterfaceTwo",
             {"a/conv2d/0", "a/conv2d/1", "act/c/conv2d/0", "act/d/conv2d/0", "i/conv2d/0", "o/conv2d/0"}},
        Case{"InterfaceIndex", {"c/conv2d/0", "d/conv2d/0", "i/conv2d/0", "o/conv2d/0"}},
        Case{"InterfaceKey", {"c/conv2d/0", "d/conv2d/0", "i/conv2d/0", "o/conv2d/0"}},
        Case{"InterfaceArgument", {"act/c/conv2d/0", "i/conv2d/0", "o/conv2d/0"}},
        Case{"InterfaceFork", {"act/c/conv2d/0", "i/conv2d/0", "o/conv2d/0"}}),
    [](const auto& info) { return info.param.model; });

TEST(FlattenCalls, AKeyChoosesTheModuleAndAWrongOneIsAnError) {
  const Model model = load("InterfaceKey");
  auto original = torch::jit::load(model_file("InterfaceKey"));
  const at::Tensor x = at::randn({1, 3, 10, 10});
  for (const char* key : {"u", "v"}) {
    expect_same(original.forward({x, std::string(key)}), model.run({{x, std::string(key)}, {}}), 0);
  }
  EXPECT_THROW(model.run({{x, std::string("w")}, {}}), Error);
}

TEST(FlattenCalls, AnInterfaceThatForwardAssignsIsRefusedByNameAndPlace) {
  try {
    load("InterfaceAssigned");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupportedModel);
    EXPECT_NE(error.message().find("Activation"), std::string::npos) << error.message();
    EXPECT_NE(error.message().find("\"a\""), std::string::npos) << error.message();
    EXPECT_NE(error.place().find(".py:"), std::string::npos) << error.place();
  }
}

TEST(FlattenCalls, WhatAnotherMethodReadsInAForkKeepsItsValue) {
  Model model = load("ForkElsewhere");
  const at::Tensor x = at::randn({1, 3, 10, 10});
  const c10::IValue wanted = model.finished_module().get_method("second")({x});
  auto* node = nodes_of_kind(model.graph()->block(), {"aten::conv2d"}).at(0);
  set_param(model, node, 1, at::zeros({8, 3, 3, 3}));
  expect_same(wanted, model.finished_module().get_method("second")({x}), 0);
}

}  // namespace
}  // namespace tsquant::testing::flatten_calls_test
