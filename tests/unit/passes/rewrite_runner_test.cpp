#include <gtest/gtest.h>

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "graph/names.h"
#include "passes/graph_dumps.h"
#include "passes/rewrite_runner.h"
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

std::vector<std::string> names(const std::vector<RewriteRecord>& records) {
  std::vector<std::string> result;
  for (const auto& record : records) result.push_back(record.name);
  return result;
}

std::vector<std::string> float_passes() {
  std::vector<std::string> result;
  for (const auto& row : all_rewrites()) {
    if (row.pass && row.phase == RewritePhase::kFloat) result.push_back(row.name);
  }
  return result;
}

TEST(RewriteRunner, RunsThePassesOfAPhaseInOrderAndRecordsThem) {
  Model model = Model::from(define(kSource));
  RewriteRunner runner(model);
  runner.run_passes(RewritePhase::kFloat);
  EXPECT_EQ(names(runner.records()), float_passes());
  EXPECT_EQ(count_kind(model, "aten::dropout"), 1u) << "identities stay until Q/DQ pairs stand";
  EXPECT_EQ(count_kind(model, "aten::relu_"), 0u);
  runner.run_passes(RewritePhase::kInsertion);
  EXPECT_EQ(count_kind(model, "aten::dropout"), 0u);
  const RewriteRecord& last = runner.records().back();
  EXPECT_EQ(last.name, "remove_identity");
  EXPECT_EQ(last.phase, "insertion");
  EXPECT_TRUE(last.changed);
  for (const auto& record : runner.records()) EXPECT_GE(record.seconds, 0);
}

TEST(RewriteRunner, ASecondRunChangesNothing) {
  Model model = Model::from(define(kSource));
  run_passes(model);
  for (const auto& record : run_passes(model)) EXPECT_FALSE(record.changed) << record.name;
}

TEST(RewriteRunner, TheRegistryHasEachNameOnce) {
  std::set<std::string> seen;
  for (const auto& row : all_rewrites()) {
    EXPECT_TRUE(seen.insert(row.name).second) << row.name;
    EXPECT_EQ(find_rewrite(row.name), &row);
    EXPECT_NE(std::string(phase_name(row.phase)), "unknown") << row.name;
  }
  EXPECT_EQ(find_rewrite("insert"), nullptr);
}

TEST(RewriteRunner, WhatIsSkippedIsNeitherRunNorRecorded) {
  Model model = Model::from(define(kSource));
  RewriteOptions options;
  options.skip = {"remove_identity", "duplicate_dequantize"};
  RewriteRunner runner(model, options);
  EXPECT_FALSE(runner.run_pass("remove_identity"));
  EXPECT_FALSE(runner.run("duplicate_dequantize", [](RewriteContext&) { return true; }));
  EXPECT_TRUE(runner.records().empty());
  EXPECT_EQ(count_kind(model, "aten::dropout"), 1u);
}

Error refusal_of(const std::string& skipped) {
  Model model = Model::from(define(kSource));
  RewriteOptions options;
  options.skip = {skipped};
  try {
    const RewriteRunner runner(model, options);
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << skipped << " was accepted";
  return Error(ErrorCode::kInternal, "");
}

TEST(RewriteRunner, WhatIsUnknownOrNeededCannotBeSkipped) {
  const Error unknown = refusal_of("fold_batchnorm");
  EXPECT_EQ(unknown.code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(unknown.message().find("no rewrite \"fold_batchnorm\""), std::string::npos) << unknown.what();
  EXPECT_NE(unknown.advice().find("fold_batch_norm"), std::string::npos) << unknown.what();
  for (const char* needed : {"insert_qdq", "to_decomposed_form", "restore_layout", "smooth_quant", "drop_unread"}) {
    const Error error = refusal_of(needed);
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(error.message().find(needed), std::string::npos) << error.what();
    EXPECT_NE(error.advice().find("remove_identity, "), std::string::npos) << error.what();
    EXPECT_EQ(error.advice().find(needed), std::string::npos) << error.what();
  }
}

Error error_of(RewriteRunner& runner, const std::string& name, const RewriteRunner::Rewrite& rewrite) {
  try {
    runner.run(name, rewrite);
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << name << " was accepted";
  return Error(ErrorCode::kInternal, "");
}

bool double_the_result(RewriteContext& ctx) {
  auto graph = ctx.model.graph();
  auto* add = nodes_of_kind(graph->block(), {"aten::add"}).at(0);
  const torch::jit::WithInsertPoint guard(add);
  add->replaceInput(0, graph->insert(c10::aten::add, {add->input(0), add->input(0)}));
  return true;
}

TEST(RewriteRunner, AnOutputThatChangesIsFoundOnlyWhereItIsPromised) {
  const Sample input = sample();
  RewriteOptions options;
  options.sample = &input;
  Model model = Model::from(define(kSource));
  RewriteRunner runner(model, options);
  EXPECT_TRUE(runner.run("insert_qdq", double_the_result)) << "quantization changes results";
  EXPECT_FALSE(runner.run_pass("fold_batch_norm"));
  const Error error = error_of(runner, "remove_identity", double_the_result);
  EXPECT_EQ(error.code(), ErrorCode::kInternal);
  EXPECT_EQ(error.place(), "remove_identity");
  EXPECT_NE(error.message().find("relative difference"), std::string::npos) << error.what();
  EXPECT_NE(error.advice().find("--skip-pass remove_identity"), std::string::npos) << error.what();
}

TEST(RewriteRunner, TheToleranceCounts) {
  const Sample input = sample();
  RewriteOptions options;
  options.sample = &input;
  options.tolerance = -1;  // no result is close enough
  Model model = Model::from(define(kSource));
  try {
    run_passes(model, options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.place(), "fold_constant_attributes");
  }
}

bool read_before_write(RewriteContext& ctx) {
  auto* relu = nodes_of_kind(ctx.model.graph()->block(), {"aten::relu"}).at(0);
  relu->moveAfter(relu->output()->uses()[0].user);
  return true;
}

TEST(RewriteRunner, AnInvalidGraphIsFoundAfterEveryRewrite) {
  Model model = Model::from(define(kSource));
  RewriteRunner runner(model);
  const Error error = error_of(runner, "insert_qdq", read_before_write);
  EXPECT_EQ(error.code(), ErrorCode::kInternal);
  EXPECT_NE(error.message().find("not well formed after insert_qdq"), std::string::npos) << error.what();
  EXPECT_EQ(error.advice().find("--skip-pass"), std::string::npos) << "it cannot be left out: " << error.what();
}

/// What LibTorch throws in a rewrite.
bool fail(RewriteContext& ctx) {
  for (auto* node : nodes_of_kind(ctx.model.graph()->block(), {"aten::relu"})) {
    ctx.at(node);
    node->removeInput(0);
    TORCH_INTERNAL_ASSERT(node->inputs().size() == 1, "an operator lost its input\nsecond line");
  }
  return true;
}

TEST(RewriteRunner, WhatLibTorchThrowsNamesRewriteAndOperator) {
  Model model = Model::from(define(kSource));
  RewriteRunner runner(model);
  const Error error = error_of(runner, "fold_batch_norm", fail);
  EXPECT_EQ(error.code(), ErrorCode::kInternal);
  EXPECT_EQ(error.place(), "/relu/0");
  EXPECT_NE(error.message().find("the rewrite fold_batch_norm failed: "), std::string::npos) << error.message();
  EXPECT_EQ(error.message().find('\n'), std::string::npos);
  EXPECT_NE(error.advice().find("--skip-pass fold_batch_norm"), std::string::npos);
}

TEST(RewriteRunner, TheOriginalErrorIsNested) {
  Model model = Model::from(define(kSource));
  RewriteRunner runner(model);
  try {
    runner.run("fold_batch_norm", fail);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THROW(std::rethrow_if_nested(error), c10::Error);
  }
}

/// Leaves the graph's insertion point at a node that is gone: LibTorch's guards restore it when they end.
bool leave_lost_insertion_point(RewriteContext& ctx) {
  auto* node = nodes_of_kind(ctx.model.graph()->block(), {"aten::relu"}).at(0);
  ctx.model.graph()->setInsertPoint(node);
  node->output()->replaceAllUsesWith(node->input(0));
  node->destroy();
  return true;
}

TEST(RewriteRunner, TheNextRewriteFindsAValidInsertionPoint) {
  Model model = Model::from(define(kSource));
  RewriteRunner runner(model);
  EXPECT_TRUE(runner.run("insert_qdq", leave_lost_insertion_point));
  for (const auto& row : all_rewrites()) {
    if (row.pass) EXPECT_NO_THROW(runner.run_pass(row.name)) << row.name;
  }
}

TEST(RewriteRunner, DumpsTheGraphAfterEachChange) {
  namespace fs = std::filesystem;
  Model model = Model::from(define(kSource));
  RewriteOptions options;
  options.dump_dir = temp_dir() + "/made/dump";
  fs::create_directories(options.dump_dir);
  const std::string stale = options.dump_dir + "/012_fold_batch_norm.ir", other = options.dump_dir + "/notes.ir";
  for (const auto& file : {stale, other}) std::ofstream(file) << "text";
  start_dumps(options.dump_dir, model);
  RewriteRunner runner(model, options);
  runner.run_passes(RewritePhase::kFloat);
  runner.run_passes(RewritePhase::kInsertion);
  const auto text = [&](const std::string& name) {
    std::ifstream file(options.dump_dir + "/" + name);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  EXPECT_NE(text("000_captured.ir").find("aten::relu_("), std::string::npos);
  const auto file_of = [](const char* name) {
    return fmt::format("{:03}_{}.ir", find_rewrite(name) - &all_rewrites()[0] + 1, name);
  };
  EXPECT_TRUE(fs::exists(options.dump_dir + "/" + file_of("fold_constant_attributes")));
  EXPECT_NE(text(file_of("remove_mutation")).find("aten::dropout("), std::string::npos);
  EXPECT_EQ(text(file_of("remove_mutation")).find("aten::relu_("), std::string::npos);
  const std::string last = file_of("remove_identity");
  EXPECT_EQ(text(last), model.graph()->toString(false));
  EXPECT_FALSE(fs::exists(stale)) << "it changed nothing; an earlier run wrote it";
  EXPECT_TRUE(fs::exists(other)) << "not ours";
}

TEST(RewriteRunner, AFolderThatCannotBeWrittenIsRefused) {
  Model model = Model::from(define(kSource));
  const std::string file = temp_dir() + "/file";
  std::ofstream(file) << "text";
  try {
    start_dumps(file + "/dump", model);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_EQ(error.place(), file + "/dump");
    EXPECT_NE(error.message().find("dumped graphs"), std::string::npos) << error.what();
  }
}

TEST(RewriteRunner, StatefulModelIsVerifiedAndKeepsItsState) {
  auto module = define(R"(
def forward(self, x):
    self.total = self.total + torch.relu_(x + 1).sum()
    self.count.add_(1)
    return x * self.total
)",
                       {{"total", at::zeros({})}, {"count", at::zeros({})}});
  Model model = Model::from(module);
  const Sample input = sample();
  RewriteOptions options;
  options.sample = &input;
  run_passes(model, options);
  EXPECT_EQ(model.module().attr("total").toTensor().item<float>(), 0);
  EXPECT_EQ(model.module().attr("count").toTensor().item<float>(), 0);
  EXPECT_EQ(count_kind(model, "prim::SetAttr"), 1u);
  EXPECT_EQ(count_kind(model, "aten::add_"), 1u);
}

TEST(RewriteRunner, ModelThatWritesItsInputIsVerified) {
  Model model = Model::from(define("def forward(self, x):\n    x.add_(1)\n    return torch.dropout(x, 0.5, False)\n"));
  const Sample input = sample();
  const auto before = input.args[0].toTensor().clone();
  RewriteOptions options;
  options.sample = &input;
  run_passes(model, options);
  EXPECT_TRUE(at::equal(before, input.args[0].toTensor()));
  EXPECT_EQ(count_kind(model, "aten::add_"), 1u);
}

TEST(RewriteRunner, RandomModelIsNotCompared) {
  Model model =
      Model::from(define("def forward(self, x):\n    return x + torch.dropout(torch.rand_like(x), 0.5, False)\n"));
  const Sample input = sample();
  RewriteOptions options;
  options.sample = &input;
  EXPECT_NO_THROW(run_passes(model, options));
  EXPECT_EQ(model.warnings().size(), 1u);
}

TEST(RewriteRunner, NamesSurviveRewriting) {
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

TEST(RewriteRunner, AddmmBecomesALinearByName) {
  Model model =
      Model::from(define("def forward(self, x):\n    return torch.addmm(self.bias, x, torch.t(self.weight))\n",
                         {{"weight", at::randn({4, 3})}, {"bias", at::randn({4})}}));
  run_passes(model);
  const auto* linear = nodes_of_kind(model.graph()->block(), {"aten::linear"}).at(0);
  EXPECT_EQ(names_of(linear).type(), "linear");
}

}  // namespace
}  // namespace tsquant::testing
