#include "support/thrown_error.h"
#include "test_models.h"
#include "tsquant/weight_only.h"
#include "weight_only/module_tree.h"

namespace tsquant::testing {
namespace {

using torch::jit::Module;

constexpr const char* kDouble = "def forward(self, x):\n  return x * 2\n";

TEST(GetModule, FollowsTheName) {
  const Module model = traced("tiny_transformer");
  EXPECT_EQ(class_name(get_module(model, "blocks.1.fc1")), "Linear");
  EXPECT_EQ(get_module(model, "blocks.1.fc1"), fetch_module(model, "blocks.1.fc1"));
  EXPECT_EQ(get_module(model, ""), model);
  EXPECT_EQ(fetch_module(model, ""), model);
}

TEST(GetModule, NamesTheStepThatIsMissingAndWhatThereIs) {
  const Module model = traced("tiny_transformer");
  for (const auto& get : {get_module, fetch_module}) {
    const Error error = thrown_error([&] { get(model, "blocks.1.fc9", true); });
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_EQ(error.place(), "blocks.1.fc9");
    EXPECT_NE(error.message().find("\"fc9\""), std::string::npos);
    EXPECT_NE(error.advice().find("fc1, fc2"), std::string::npos);
  }
  EXPECT_THROW(get_module(model, "head.weight"), Error);  // no module
}

TEST(GetModule, SkipsMissingStepsWhenAskedTo) {
  const Module model = traced("tiny_transformer");
  EXPECT_EQ(class_name(get_module(model, "blocks.nope.fc1", false)), "ModuleList");
  EXPECT_EQ(class_name(get_module(model, "nope", false)), "Tiny");
  EXPECT_EQ(class_name(fetch_module(model, "nope.head", false)), "Linear");
}

TEST(GetModule, LooksIntoWrappers) {
  const Module inner = define(kDouble);
  const Module layer = define("def forward(self, x):\n  return self.inner.forward(x)\n", {}, {{"inner", inner}});
  for (const char* wrapper : {"sq_linear", "orig_layer"}) {
    const Module wrapped = define(std::string("def forward(self, x):\n  return self.") + wrapper + ".forward(x)\n", {},
                                  {{wrapper, layer}});
    const Module model = define("def forward(self, x):\n  return self.fc.forward(x)\n", {}, {{"fc", wrapped}});
    EXPECT_EQ(get_module(model, "fc.inner"), inner);
    EXPECT_THROW(fetch_module(model, "fc.inner"), Error);
    EXPECT_EQ(fetch_module(model, "fc.inner", false), wrapped);
  }
}

TEST(GetBlockPrefix, FindsTheFirstModuleList) {
  using Prefix = std::pair<std::string, int64_t>;
  EXPECT_EQ(get_block_prefix(traced("tiny_transformer")), Prefix("blocks", 3));
  EXPECT_EQ(get_block_prefix(traced("mixed")), Prefix("inner.lists", 2));
}

/// torch.nn.ModuleList as TorchScript has it: a module of this class with children "0", "1", ...
Module module_list(const std::vector<Module>& children) {
  static int count = 0;
  Module list("__torch__.list_" + std::to_string(count++) + ".ModuleList");
  for (size_t i = 0; i < children.size(); ++i) list.register_module(std::to_string(i), children[i]);
  return list;
}

TEST(GetBlockPrefix, TheOuterOfNestedListsWins) {
  const Module inner = module_list({define(kDouble)});
  const Module holder = define(kDouble, {}, {{"deep", inner}});
  const Module model = define(kDouble, {}, {{"enc", holder}, {"layers", module_list({holder, holder})}});
  EXPECT_EQ(get_block_prefix(model).first, "enc.deep");
  const Module outer = define(kDouble, {}, {{"layers", module_list({holder, define(kDouble)})}, {"enc", holder}});
  EXPECT_EQ(get_block_prefix(outer).first, "layers");
  EXPECT_EQ(get_block_prefix(outer).second, 2);
}

TEST(GetBlockPrefix, RefusesModelsWithoutBlocks) {
  const Error none = thrown_error([] { get_block_prefix(traced("convnet")); });
  EXPECT_EQ(none.code(), ErrorCode::kUnsupportedModel);
  EXPECT_NE(none.advice().find("conv1"), std::string::npos);
  const Error empty = thrown_error([] { get_block_prefix(define(kDouble, {}, {{"none", module_list({})}})); });
  EXPECT_EQ(empty.code(), ErrorCode::kUnsupportedModel);
  EXPECT_EQ(empty.place(), "none");
}

TEST(AllModules, CountsSharedModulesOnce) {
  const Module shared = define(kDouble);
  const Module model = define(kDouble, {}, {{"a", shared}, {"b", shared}});
  std::vector<std::string> names;
  for (const auto& [name, module] : all_modules(model)) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"", "a"}));
}

}  // namespace
}  // namespace tsquant::testing
