#include <gtest/gtest.h>

#include <filesystem>

#include "graph/names.h"
#include "passes/passes.h"
#include "support/rewrite.h"
#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant::testing {
namespace {

const char* kSource = R"(
def forward(self, x):
    y = torch.dropout(torch.relu(x), 0.5, self.training)
    return torch.relu_(torch.add(y, x)), {"y": y}
)";

Sample sample() { return {{at::randn({2, 3})}, {}}; }

TEST(Pipeline, RunsEveryPassInOrderAndRecordsIt) {
  Model model = Model::from(define(kSource));
  auto records = run_passes(model);
  EXPECT_EQ(count_kind(model, "aten::dropout"), 1u) << "identities stay until Q/DQ pairs stand";
  PipelineOptions after;
  after.phase = PassPhase::kAfterInsertion;
  for (const auto& record : run_passes(model, after)) records.push_back(record);
  ASSERT_EQ(records.size(), all_passes().size());
  for (size_t i = 0; i < records.size(); ++i) {
    EXPECT_EQ(records[i].name, all_passes()[i].name);
    EXPECT_GE(records[i].seconds, 0);
  }
  EXPECT_EQ(count_kind(model, "aten::dropout"), 0u);
  EXPECT_EQ(count_kind(model, "aten::relu_"), 0u);
}

TEST(Pipeline, SecondRunChangesNothing) {
  Model model = Model::from(define(kSource));
  run_passes(model);
  for (const auto& record : run_passes(model)) EXPECT_FALSE(record.changed) << record.name;
}

TEST(Pipeline, SkippedPassIsNotRun) {
  Model model = Model::from(define(kSource));
  PipelineOptions options;
  options.skip = {"remove_identity"};
  options.phase = PassPhase::kAfterInsertion;
  EXPECT_TRUE(run_passes(model, options).empty());
  EXPECT_EQ(count_kind(model, "aten::dropout"), 1u);
}

TEST(Pipeline, UnknownPassIsRefusedWithTheNames) {
  Model model = Model::from(define(kSource));
  PipelineOptions options;
  options.skip = {"fold_batchnorm"};
  try {
    run_passes(model, options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("fold_batchnorm"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("fold_batch_norm"), std::string::npos);
  }
}

TEST(Pipeline, VerifiesWithTheSampleAndNamesThePass) {
  Model model = Model::from(define(kSource));
  const Sample input = sample();
  PipelineOptions options;
  options.sample = &input;
  EXPECT_NO_THROW(run_passes(model, options));
  Model other = Model::from(define(kSource));
  options.tolerance = -1;  // no result is close enough
  try {
    run_passes(other, options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInternal);
    EXPECT_EQ(error.place(), "fold_constant_attributes");
  }
}

/// What LibTorch throws in a pass.
bool failing_pass(PassContext& ctx) {
  for (auto* node : nodes_of_kind(ctx.model.graph()->block(), {"aten::relu"})) {
    ctx.at(node);
    node->removeInput(0);
    TORCH_INTERNAL_ASSERT(node->inputs().size() == 1, "an operator lost its input\nsecond line");
  }
  return true;
}

TEST(Pipeline, WhatLibTorchThrowsInAPassNamesPassAndOperator) {
  Model model = Model::from(define(kSource));
  PassContext context{model, model.warnings()};
  try {
    run_pass({"failing_pass", failing_pass, PassPhase::kBeforeAnnotation}, context);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInternal);
    EXPECT_EQ(error.place(), "/relu/0");
    EXPECT_NE(error.message().find("pass failing_pass failed: "), std::string::npos) << error.message();
    EXPECT_EQ(error.message().find('\n'), std::string::npos);
    EXPECT_NE(error.advice().find("--skip-pass failing_pass"), std::string::npos);
    EXPECT_THROW(std::rethrow_if_nested(error), c10::Error);
  }
}

/// Leaves the graph's insertion point at a node that is gone: LibTorch's guards restore it when they end.
bool careless_pass(PassContext& ctx) {
  auto* node = nodes_of_kind(ctx.model.graph()->block(), {"aten::relu"}).at(0);
  ctx.model.graph()->setInsertPoint(node);
  node->output()->replaceAllUsesWith(node->input(0));
  node->destroy();
  return true;
}

TEST(Pipeline, TheNextPassFindsAValidInsertionPoint) {
  Model model = Model::from(define(kSource));
  PassContext context{model, model.warnings()};
  EXPECT_TRUE(run_pass({"careless_pass", careless_pass, PassPhase::kBeforeAnnotation}, context));
  for (const auto& pass : all_passes()) EXPECT_NO_THROW(run_pass(pass, context)) << pass.name;
  EXPECT_NO_THROW(model.graph()->lint());
}

TEST(Pipeline, DumpsTheGraphAfterEachChange) {
  Model model = Model::from(define(kSource));
  PipelineOptions options;
  options.dump_dir = temp_dir() + "/dump";
  run_passes(model, options);
  options.phase = PassPhase::kAfterInsertion;
  run_passes(model, options);
  EXPECT_TRUE(std::filesystem::exists(options.dump_dir + "/000_fold_constant_attributes.ir"));
  EXPECT_TRUE(std::filesystem::exists(options.dump_dir + "/008_remove_identity.ir"));
  EXPECT_FALSE(std::filesystem::exists(options.dump_dir + "/007_fold_batch_norm.ir"));
}

TEST(Pipeline, StatefulModelIsVerifiedAndKeepsItsState) {
  auto module = define(R"(
def forward(self, x):
    self.total = self.total + torch.relu_(x + 1).sum()
    self.count.add_(1)
    return x * self.total
)",
                       {{"total", at::zeros({})}, {"count", at::zeros({})}});
  Model model = Model::from(module);
  const Sample input = sample();
  PipelineOptions options;
  options.sample = &input;
  run_passes(model, options);
  EXPECT_EQ(model.module().attr("total").toTensor().item<float>(), 0);
  EXPECT_EQ(model.module().attr("count").toTensor().item<float>(), 0);
  EXPECT_EQ(count_kind(model, "prim::SetAttr"), 1u);
  EXPECT_EQ(count_kind(model, "aten::add_"), 1u);
}

TEST(Pipeline, ModelThatWritesItsInputIsVerified) {
  Model model = Model::from(define("def forward(self, x):\n    x.add_(1)\n    return torch.dropout(x, 0.5, False)\n"));
  const Sample input = sample();
  const auto before = input.args[0].toTensor().clone();
  PipelineOptions options;
  options.sample = &input;
  run_passes(model, options);
  EXPECT_TRUE(at::equal(before, input.args[0].toTensor()));
  EXPECT_EQ(count_kind(model, "aten::add_"), 1u);
}

TEST(Pipeline, RandomModelIsNotCompared) {
  Model model =
      Model::from(define("def forward(self, x):\n    return x + torch.dropout(torch.rand_like(x), 0.5, False)\n"));
  const Sample input = sample();
  PipelineOptions options;
  options.sample = &input;
  EXPECT_NO_THROW(run_passes(model, options));
  EXPECT_EQ(model.warnings().size(), 1u);
}

TEST(Pipeline, NamesSurviveRewriting) {
  Model model = Model::from(define(R"(
def forward(self, x):
    c = torch._convolution(x, self.weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, False, False, True, True)
    return torch.relu_(c)
)",
                                   {{"weight", at::randn({4, 3, 3, 3})}}));
  const auto before = names_of(nodes_of_kind(model.graph()->block(), {"aten::_convolution"}).at(0)).name;
  run_passes(model);
  const auto* conv = nodes_of_kind(model.graph()->block(), {"aten::conv2d"}).at(0);
  const auto* relu = nodes_of_kind(model.graph()->block(), {"aten::relu"}).at(0);
  EXPECT_EQ(names_of(conv).name, before);
  EXPECT_EQ(names_of(relu).type(), "relu_");
}

TEST(Pipeline, AddmmBecomesALinearByName) {
  Model model =
      Model::from(define("def forward(self, x):\n    return torch.addmm(self.bias, x, torch.t(self.weight))\n",
                         {{"weight", at::randn({4, 3})}, {"bias", at::randn({4})}}));
  run_passes(model);
  const auto* linear = nodes_of_kind(model.graph()->block(), {"aten::linear"}).at(0);
  EXPECT_EQ(names_of(linear).type(), "linear");
}

}  // namespace
}  // namespace tsquant::testing
