#include "support/thrown_error.h"
#include "test_models.h"
#include "tsquant/weight_only.h"
#include "weight_only/module_tree.h"

namespace tsquant::testing {
namespace {

using torch::jit::Module;

Module times(double factor) { return define("def forward(self, x):\n  return x * " + std::to_string(factor) + "\n"); }

at::Tensor run(Module model, const at::Tensor& x) { return model.forward({x}).toTensor(); }

TEST(SetModule, PutsAnotherClassInItsPlace) {
  Module model = traced("tiny_transformer");
  const Module before = model;
  const auto ids = model_array("tiny_transformer.example");
  const auto old = run(model, ids);
  set_module(model, "head", times(0));
  EXPECT_EQ(run(model, ids).abs().max().item<float>(), 0);
  EXPECT_TRUE(equal_numbers(run(before, ids), old));
  EXPECT_EQ(class_name(get_module(before, "head")), "Linear");
}

TEST(SetModule, ConcernsOneOfSeveralModulesOfAClass) {
  const Module layer = times(2);
  const Module same(layer._ivalue()->compilation_unit(), layer.type());  // another object of this class
  const Module block =
      define("def forward(self, x):\n  return self.b.forward(self.a.forward(x))\n", {}, {{"a", layer}, {"b", same}});
  Module model = define("def forward(self, x):\n  return self.block.forward(x) + 1\n", {}, {{"block", block}});
  set_module(model, "block.b", times(10));
  EXPECT_EQ(run(model, at::ones({1})).item<float>(), 21);
  set_module(model, "block.a", times(3));
  EXPECT_EQ(run(model, at::ones({1})).item<float>(), 31);
  set_module(model, "block", times(-1));
  EXPECT_EQ(run(model, at::ones({1})).item<float>(), 0);
  EXPECT_EQ(run(block, at::ones({1})).item<float>(), 4);
}

TEST(SetModule, SharedParentsStayShared) {
  const Module shared = define("def forward(self, x):\n  return self.a.forward(x)\n", {}, {{"a", times(2)}});
  Module model = define("def forward(self, x):\n  return self.left.forward(x) + self.right.forward(x)\n", {},
                        {{"left", shared}, {"right", shared}});
  set_module(model, "right.a", times(5));
  EXPECT_EQ(run(model, at::ones({1})).item<float>(), 10);
  EXPECT_EQ(get_module(model, "left"), get_module(model, "right"));
}

TEST(SetModule, SharesTensorsAndCanBeSaved) {
  Module model = traced("tiny_transformer");
  const auto ids = model_array("tiny_transformer.example");
  const auto layer = get_module(model, "blocks.0.fc1");
  const auto weight = layer.attr("weight").toTensor().detach().clone();
  const Module copy = define("def forward(self, x):\n  return torch.linear(x, self.weight, self.bias)\n",
                             {{"weight", weight}, {"bias", layer.attr("bias").toTensor().detach().clone()}});
  const auto old = run(model, ids);
  set_module(model, "blocks.0.fc1", copy);
  EXPECT_TRUE(equal_numbers(run(model, ids), old));
  const auto placed = get_module(model, "blocks.0.fc1").attr("weight").toTensor();
  EXPECT_TRUE(placed.is_same(copy.attr("weight").toTensor()));
  quant_tensor(weight, 2, -1, "sym");
  EXPECT_GT((run(model, ids) - old).abs().max().item<float>(), 0);
  const std::string path = temp_dir() + "/edited.pt";
  model.save(path);
  EXPECT_TRUE(equal_numbers(run(torch::jit::load(path), ids), run(model, ids)));
}

TEST(SetModule, GoesIntoWrappers) {
  const Module wrapper =
      define("def forward(self, x):\n  return self.orig_layer.forward(x)\n", {},
             {{"orig_layer", define("def forward(self, x):\n  return self.fc.forward(x)\n", {}, {{"fc", times(2)}})}});
  Module model = define("def forward(self, x):\n  return self.layer.forward(x)\n", {}, {{"layer", wrapper}});
  set_module(model, "layer.fc", times(7));
  EXPECT_EQ(run(model, at::ones({1})).item<float>(), 7);
  EXPECT_EQ(class_name(get_module(model, "layer.orig_layer.fc")), class_name(get_module(model, "layer.fc")));
  set_module(model, "layer.orig_layer", times(3));
  EXPECT_EQ(run(model, at::ones({1})).item<float>(), 3);
}

TEST(SetModule, RefusesNamesAndModulesThatDoNotFit) {
  Module model = traced("tiny_transformer");
  const Module before = model;
  const auto refused = [&](const std::string& key, const Module& module, bool strict = true) {
    const Error error = thrown_error([&] { set_module(model, key, module, strict); });
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_EQ(model, before);
    return error.message();
  };
  EXPECT_NE(refused("blocks.7.fc1", times(1)).find("\"7\""), std::string::npos);
  EXPECT_NE(refused("nope", times(1), false).find("\"nope\""), std::string::npos);
  EXPECT_NE(refused("", times(1)).find("no name"), std::string::npos);
  EXPECT_NE(refused("head", define("def run(self, x):\n  return x\n")).find("no method \"forward\""),
            std::string::npos);
  EXPECT_NE(refused("head", define("def forward(self, x, y):\n  return x + y\n")).find("other arguments"),
            std::string::npos);
  EXPECT_NE(refused("head", define("def forward(self, x):\n  return (x, x)\n")).find("other arguments or results"),
            std::string::npos);
  EXPECT_NE(refused("blocks", times(1)).find("no attribute \""), std::string::npos);
  set_module(model, "nope.head", times(0), /*strict=*/false);
  EXPECT_FALSE(model == before);
}

}  // namespace
}  // namespace tsquant::testing
