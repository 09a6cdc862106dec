#include <gtest/gtest.h>

#include <algorithm>

#include "golden_graph.h"

namespace tsquant::testing {
namespace {

/// Every packed model: each recorded setup of NNCF must come out of our solver, ids included.
class PlacementGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(PlacementGolden, metatypes_equal_those_of_nncf) {
  std::vector<std::string> mismatches;
  make_graph(load_golden(GetParam()), &mismatches);
  EXPECT_TRUE(mismatches.empty()) << ::testing::PrintToString(mismatches);
}

TEST_P(PlacementGolden, setups_equal_those_of_nncf) {
  const auto golden = load_golden(GetParam());
  const auto graph = make_graph(golden);
  for (const auto& [variant, expected] : golden["setups"].items()) {
    const auto placement = place(graph, make_options(expected["options"]));
    const auto ours = describe(graph, placement.setup), theirs = describe(expected);
    std::vector<std::string> missing, extra;
    std::set_difference(theirs.begin(), theirs.end(), ours.begin(), ours.end(), std::back_inserter(missing));
    std::set_difference(ours.begin(), ours.end(), theirs.begin(), theirs.end(), std::back_inserter(extra));
    EXPECT_TRUE(missing.empty() && extra.empty()) << variant << "\nmissing " << ::testing::PrintToString(missing)
                                                  << "\nextra " << ::testing::PrintToString(extra);
  }
}

std::vector<std::string> half_range_names(const openvino::PlacementGraph& graph, const openvino::Placement& placement) {
  std::vector<std::string> names;
  for (size_t i = 0; i < placement.half_range.size(); ++i) {
    if (placement.half_range[i]) names.push_back(graph.name_of(static_cast<int>(i)));
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> sorted_names(const nlohmann::json& list) {
  auto names = list.get<std::vector<std::string>>();
  std::sort(names.begin(), names.end());
  return names;
}

TEST_P(PlacementGolden, overflow_fix_equals_that_of_nncf) {
  const auto golden = load_golden(GetParam());
  const auto& setup = golden["setups"]["default"];
  const auto graph = make_graph(golden);
  OpenVINOQuantizerOptions options;
  options.overflow_fix = OverflowFix::kEnable;
  EXPECT_EQ(half_range_names(graph, place(graph, options)), sorted_names(setup["half_range_weight_nodes_enable"]));
  options.overflow_fix = OverflowFix::kFirstLayer;
  EXPECT_EQ(half_range_names(graph, place(graph, options)),
            sorted_names(setup["half_range_weight_nodes_first_layer_only"]));
  options.overflow_fix = OverflowFix::kDisable;
  EXPECT_TRUE(half_range_names(graph, place(graph, options)).empty());
}

INSTANTIATE_TEST_SUITE_P(Models, PlacementGolden, ::testing::ValuesIn(golden_models()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace tsquant::testing
