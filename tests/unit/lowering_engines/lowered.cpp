#include "lowered.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "graph/names.h"
#include "graph/node_lists.h"
#include "lowering/lowering.h"
#include "support/support.h"
#include "tsquant/engine.h"

namespace tsquant::testing {

std::map<std::string, int> Lowered::kinds() const {
  std::map<std::string, int> kinds;
  for (const auto* node : all_nodes(lowered.graph()->block())) {
    if (node->kind() != c10::prim::Constant && node->kind() != c10::prim::GetAttr) ++kinds[node->kind().toQualString()];
  }
  return kinds;
}

std::string Lowered::kernel_of(const std::string& type) const {
  std::string kernel = "no such node";
  for (const auto& node : report.nodes) {
    if (node.type == type) kernel = node.kernel;
  }
  return kernel;
}

Lowered lower(const std::string& source, const std::vector<std::pair<std::string, at::Tensor>>& params,
              const std::string& engine, const at::Tensor& probe, LoweringCost cost) {
  return lower(Model::from(define(source, params)), engine, probe, cost);
}

Lowered lower(const Model& model, const std::string& engine, const at::Tensor& probe, LoweringCost cost,
              const RewriteOptions& rewrites) {
  Lowered result{model, model.clone(), {}};
  for (const auto* node : all_nodes(result.lowered.graph()->block())) {
    const auto names = names_of(node);
    if (!names.name.empty()) result.report.nodes.push_back({names.name, names.fx_name, names.type(), true, "", "", ""});
  }
  RewriteRunner runner(result.lowered, rewrites);
  lower_to_engine(runner, engine, cost, {{probe}, {}}, result.report);
  result.report.rewrites = runner.records();
  return result;
}

at::Tensor quantized_weight(at::IntArrayRef sizes, int64_t axis) {
  const auto scales = at::rand({sizes[static_cast<size_t>(axis)]}, at::kDouble) * 0.01 + 0.002;
  const auto zero_points = at::zeros({sizes[static_cast<size_t>(axis)]}, at::kLong);
  return at::_make_per_channel_quantized_tensor(at::randint(-127, 128, sizes, at::kChar), scales, zero_points, axis);
}

void expect_close(const at::Tensor& actual, const at::Tensor& expected, double scale, double quanta) {
  ASSERT_EQ(actual.sizes(), expected.sizes());
  const auto difference = (actual - expected).abs();
  EXPECT_LE(difference.max().item<double>(), quanta * scale * 1.001);
  const auto ties = difference.ge(scale * 0.5).sum().item<int64_t>();
  EXPECT_LE(ties, std::max<int64_t>(2, difference.numel() / 1000)) << "of " << difference.numel();
  EXPECT_GT(expected.std().item<double>(), scale) << "the data do not exercise the range";
}

}  // namespace tsquant::testing
