#include <gtest/gtest.h>
#include <torch/csrc/jit/testing/file_check.h>

#include <algorithm>
#include <filesystem>

#include "ir_case.h"
#include "passes/compare_outputs.h"
#include "passes/decompose_attention.h"
#include "passes/rewrite_runner.h"
#include "passes/scalars_to_tensors.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> case_files() {
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(std::string(TSQUANT_SOURCE_DIR) + "/tests/graph/passes")) {
    if (entry.path().extension() == ".ir") files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string case_name(const ::testing::TestParamInfo<std::string>& info) {
  std::string name =
      fs::path(info.param).parent_path().filename().string() + "_" + fs::path(info.param).stem().string();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

Pass find_pass(const std::string& name) {
  for (const auto& pass : all_passes()) {
    if (name == pass.name) return pass.run;
  }
  // Rewrites that quantizers ask for before they annotate.
  if (name == "decompose_attention") return [](RewriteContext& ctx) { return decompose_attention(ctx.model); };
  if (name == "scalars_to_tensors") return [](RewriteContext& ctx) { return scalars_to_tensors(ctx.model); };
  return nullptr;
}

class PassCase : public ::testing::TestWithParam<std::string> {};

// One pass on one graph: the printed result, the numbers, the invariants of the graph, and a second run.
TEST_P(PassCase, RewritesAndKeepsTheNumbers) {
  const IrCase ir_case = read_ir_case(GetParam());
  const Pass pass = find_pass(ir_case.pass);
  ASSERT_NE(pass, nullptr) << "no pass " << ir_case.pass;
  Model model = Model::from(module_of(ir_case));
  const Sample sample{inputs_of(ir_case), {}};
  const auto copy = [&] {
    Sample fresh;
    for (const auto& value : sample.args) fresh.args.push_back(value.deepcopy());
    return fresh;
  };
  const auto expected = model.run(copy());

  RewriteContext context{model, model.warnings(), &sample};
  EXPECT_EQ(pass(context), !ir_case.unchanged) << *model.graph();
  ASSERT_NO_THROW(model.graph()->lint());
  if (ir_case.text.find("# CHECK") != std::string::npos) {
    ASSERT_NO_THROW(torch::jit::testing::FileCheck().run(ir_case.text, *model.graph())) << *model.graph();
  }
  const auto difference = compare_outputs(expected, model.run(copy()));
  EXPECT_EQ(difference.mismatch, "");
  EXPECT_LE(difference.relative, 1e-5);
  EXPECT_FALSE(pass(context)) << "the second run changes the graph again:\n" << *model.graph();
}

INSTANTIATE_TEST_SUITE_P(Graph, PassCase, ::testing::ValuesIn(case_files()), case_name);

}  // namespace
}  // namespace tsquant::testing
