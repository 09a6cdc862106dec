#include <gtest/gtest.h>
#include <torch/csrc/jit/testing/file_check.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "ir_case.h"
#include "ir_road.h"
#include "ir_text.h"
#include "passes/compare_outputs.h"
#include "passes/rewrite_registry.h"
#include "support/support.h"
#include "tsquant/engine.h"
#include "tsquant/error.h"

namespace tsquant::testing {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> case_files() {
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(std::string(TSQUANT_SOURCE_DIR) + "/tests/graph")) {
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

/// Rewrites that find nothing in what they made.
bool finds_nothing_again(const std::string& name) {
  const RewriteRow* row = find_rewrite(name);
  if (!row) return false;
  return row->pass || row->phase == RewritePhase::kForm || row->phase == RewritePhase::kFinish ||
         row->phase == RewritePhase::kQuantizer;
}

Sample fresh(const Sample& sample) {
  Sample copy;
  for (const auto& value : sample.args) copy.args.push_back(value.deepcopy());
  return copy;
}

void expect_same_numbers(const IrCase& ir_case, const c10::IValue& expected, const c10::IValue& actual) {
  if (ir_case.within < 0) {
    const auto difference = compare_outputs(expected, actual);
    EXPECT_EQ(difference.mismatch, "");
    EXPECT_LE(difference.relative, 1e-5);
    return;
  }
  ASSERT_TRUE(expected.isTensor() && actual.isTensor()) << "WITHIN is for one tensor";
  const at::Tensor result = actual.toTensor().is_quantized() ? actual.toTensor().dequantize() : actual.toTensor();
  EXPECT_LE((expected.toTensor() - result).abs().max().item<double>(), ir_case.within);
}

/// The whole text, or with TSQUANT_UPDATE_IR what it is now goes into the file.
void expect_text(const std::string& path, const IrCase& ir_case, const Model& model) {
  if (ir_case.expected.empty() && ir_case.text.find("# CHECK") != std::string::npos) return;
  if (std::getenv("TSQUANT_UPDATE_IR") != nullptr) return rewrite_expected(path, ir_text(model));
  EXPECT_EQ(ir_text(model), ir_case.expected);
}

/// Engines of LibTorch whose products of bytes saturate on this processor are not offered.
bool has_engine(const std::string& engine) {
  const auto engines = available_engines();
  return std::find(engines.begin(), engines.end(), engine) != engines.end();
}

class RewriteCase : public ::testing::TestWithParam<std::string> {};

// One rewrite on one graph: the result, the numbers, the invariants of the graph, and a second run.
TEST_P(RewriteCase, RewritesAndKeepsTheNumbers) {
  const IrCase ir_case = read_ir_case(GetParam());
  if (ir_case.engine != "tsquant" && !has_engine(ir_case.engine))
    GTEST_SKIP() << ir_case.engine << " is not usable here";
  Model model = Model::from(module_of(ir_case));
  const Sample sample{inputs_of(ir_case), {}};
  IrRoad road(ir_case, model, sample);
  const auto original = model.run(fresh(sample));
  for (const auto& name : ir_case.after) road.run(name);
  if (ir_case.fails_before) EXPECT_THROW(model.run(fresh(sample)), Error);
  const auto expected = ir_case.fails_before ? original : model.run(fresh(sample));

  EXPECT_EQ(road.run(ir_case.rewrite), !ir_case.unchanged) << *model.graph();
  expect_text(GetParam(), ir_case, model);
  if (ir_case.text.find("# CHECK") != std::string::npos) {
    ASSERT_NO_THROW(torch::jit::testing::FileCheck().run(ir_case.text, *model.graph())) << *model.graph();
  }
  for (const auto& [node, text] : ir_case.reports) EXPECT_EQ(road.report_of(node), text) << node;
  expect_same_numbers(ir_case, expected, model.run(fresh(sample)));
  if (!finds_nothing_again(ir_case.rewrite)) return;
  EXPECT_FALSE(road.run(ir_case.rewrite)) << "the second run changes the graph again:\n" << *model.graph();
}

INSTANTIATE_TEST_SUITE_P(Graph, RewriteCase, ::testing::ValuesIn(case_files()), case_name);

TEST(RewriteCases, EveryRewriteHasOne) {
  std::set<std::string> tested;
  for (const auto& path : case_files()) tested.insert(read_ir_case(path).rewrite);
  for (const auto& row : all_rewrites()) EXPECT_TRUE(tested.count(row.name)) << row.name;
}

}  // namespace
}  // namespace tsquant::testing
