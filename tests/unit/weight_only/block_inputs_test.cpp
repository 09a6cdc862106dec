#include "support/thrown_error.h"
#include "test_models.h"
#include "tsquant/weight_only.h"

namespace tsquant::testing {
namespace {

using torch::jit::Module;

TEST(ReplaceForward, RecordsTheInputsOfTheFirstBlockAndStops) {
  Module model = traced("tiny_transformer");
  const Module before = model;
  const auto ids = model_array("tiny_transformer.batch0");
  const auto out = model.forward({ids}).toTensor();  // compiled before, with the blocks inlined
  const auto inputs = replace_forward(model);
  EXPECT_TRUE(model.forward({ids}).isNone());
  EXPECT_TRUE(model.forward({ids.narrow(0, 0, 1)}).isNone());
  ASSERT_EQ(inputs->args.size(), 2u);
  ASSERT_EQ(inputs->args[0].size(), 1u);
  const auto embedding = get_module(model, "emb").attr("weight").toTensor();
  EXPECT_TRUE(equal_numbers(inputs->args[0][0].toTensor().detach(), embedding.detach().index({ids})));
  EXPECT_EQ(inputs->args[1][0].toTensor().size(0), 1);
  EXPECT_TRUE(equal_numbers(Module(before).forward({ids}).toTensor(), out));

  recover_forward(model);
  EXPECT_EQ(model, before);
  EXPECT_TRUE(equal_numbers(model.forward({ids}).toTensor(), out));
  EXPECT_EQ(inputs->args.size(), 2u);
}

TEST(ReplaceForward, RunsWithModelForward) {
  Module model = traced("tiny_transformer");
  const auto ids = model_array("tiny_transformer.batch0");
  const auto inputs = replace_forward(model);
  model_forward(model, Dataset::from_tensors({ids, ids, ids}), 2);
  EXPECT_EQ(inputs->args.size(), 2u);
}

TEST(ReplaceForward, TheModelCanBeReadMeanwhile) {
  Module model = traced("tiny_transformer");
  replace_forward(model);
  EXPECT_EQ(get_block_prefix(model).first, "blocks");
  EXPECT_EQ(get_module(model, "blocks.0.fc1").attr("weight").toTensor().dim(), 2);
  EXPECT_EQ(model.named_parameters().size(), traced("tiny_transformer").named_parameters().size());
  // Nobody wants the records any more; the block stops all the same.
  EXPECT_TRUE(model.forward({model_array("tiny_transformer.batch0")}).isNone());
}

/// Blocks of one class, as compiled models have them, and code around them.
Module compiled_model() {
  const Module block = define("def forward(self, x, shift: int = 3):\n  return x * 2 + shift\n");
  Module list("__torch__.compiled.ModuleList");
  list.register_module("0", block);
  list.register_module("1", Module(block._ivalue()->compilation_unit(), block.type()));
  return define(
      "def forward(self, x, again: bool):\n"
      "  if again:\n"
      "    x = getattr(self.layers, \"1\").forward(x)\n"
      "  x = getattr(self.layers, \"0\").forward(x, shift=int(x.size(0)))\n"
      "  return getattr(self.layers, \"1\").forward(x)\n",
      {}, {{"layers", list}});
}

TEST(ReplaceForward, OtherBlocksOfTheClassRun) {
  Module model = compiled_model();
  const auto inputs = replace_forward(model);
  EXPECT_TRUE(model.forward({at::ones({1}), false}).isNone());
  EXPECT_TRUE(model.forward({at::ones({1}), true}).isNone());
  ASSERT_EQ(inputs->args.size(), 2u);
  EXPECT_EQ(inputs->args[0][0].toTensor().item<float>(), 1);
  EXPECT_EQ(inputs->args[1][0].toTensor().item<float>(), 5);
  EXPECT_EQ(inputs->args[0][1].toInt(), 1);
  recover_forward(model);
  EXPECT_EQ(model.forward({at::ones({1}), false}).toTensor().item<float>(), 9);
}

TEST(ReplaceForward, OwnErrorsOfTheModelPass) {
  Module model = traced("tiny_transformer");
  const auto inputs = replace_forward(model);
  EXPECT_THROW(model.forward({at::ones({2, 2})}), std::exception);  // no indices
  EXPECT_TRUE(inputs->args.empty());
}

TEST(ReplaceForward, RefusesWhatItCannotDo) {
  Module model = traced("tiny_transformer");
  EXPECT_EQ(thrown_error([&] { recover_forward(model); }).code(), ErrorCode::kInvalidArgument);
  replace_forward(model);
  EXPECT_EQ(thrown_error([&] { replace_forward(model); }).code(), ErrorCode::kInvalidArgument);
  const Module replaced = model;
  for (const Error& error : {thrown_error([&] { set_module(model, "head", replaced); }),
                             thrown_error([&] { get_module_input_output(replaced, {}, Dataset::from_tensors({})); })}) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(error.advice().find("recover_forward"), std::string::npos);
  }
  Module convnet = traced("convnet");
  EXPECT_EQ(thrown_error([&] { replace_forward(convnet); }).code(), ErrorCode::kUnsupportedModel);
  Module idle = define("def forward(self, x):\n  return x + 1\n", {},
                       {{"blocks", get_module(traced("tiny_transformer"), "blocks")}});
  replace_forward(idle);
  EXPECT_EQ(thrown_error([&] { idle.forward({at::ones({1})}); }).code(), ErrorCode::kUnsupportedModel);
}

}  // namespace
}  // namespace tsquant::testing
