#include <gtest/gtest.h>

#include <chrono>
#include <limits>

#include <algorithm>

#include "golden_graph.h"
#include "tsquant/error.h"

namespace tsquant::testing {
namespace {

using openvino::Placement;
using openvino::SetupPoint;

const SetupPoint* find_point(const Placement& placement, int node, PointKind kind = PointKind::kActivation,
                             int port = -1) {
  for (const auto& point : placement.setup.points) {
    if (point.node == node && point.kind == kind && point.port == port) return &point;
  }
  return nullptr;
}

size_t count(const Placement& placement, PointKind kind) {
  const auto& points = placement.setup.points;
  return static_cast<size_t>(
      std::count_if(points.begin(), points.end(), [kind](const SetupPoint& point) { return point.kind == kind; }));
}

TEST(Propagation, moves_through_operators_that_only_move_values) {
  GraphMaker maker;
  const int x = maker.input();
  const int pool = maker.op("max_pool2d", {x});
  const int conv = maker.weighted("conv2d", maker.op("reshape", {pool}));
  maker.output({conv});
  const auto placement = place(maker.graph);
  ASSERT_NE(find_point(placement, x), nullptr);
  EXPECT_EQ(find_point(placement, x)->quantized_nodes, openvino::IdList{conv});
  EXPECT_NE(find_point(placement, conv, PointKind::kWeight), nullptr);
  EXPECT_EQ(placement.setup.points.size(), 2u);
}

TEST(Propagation, stops_below_operators_that_compute_in_float) {
  GraphMaker maker;
  const int tanh = maker.op("tanh", {maker.input()});
  maker.output({maker.weighted("conv2d", tanh)});
  const auto placement = place(maker.graph);
  ASSERT_NE(find_point(placement, tanh), nullptr);
  EXPECT_EQ(find_point(placement, tanh)->stop, openvino::StopReason::kProducer);
  EXPECT_EQ(placement.fates[tanh], openvino::Fate::kNotQuantizable);
}

TEST(Propagation, an_activation_fused_into_a_convolution_has_no_quantizer_before_it) {
  GraphMaker maker;
  const int conv = maker.weighted("conv2d", maker.input());
  const int relu = maker.op("relu", {conv});
  maker.output({maker.weighted("conv2d", relu, "second")});
  const auto placement = place(maker.graph);
  EXPECT_EQ(find_point(placement, conv), nullptr);
  EXPECT_NE(find_point(placement, relu), nullptr);
}

TEST(Propagation, branches_share_one_quantizer) {
  GraphMaker maker;
  const int x = maker.input();
  const int a = maker.weighted("conv2d", x, "a"), b = maker.weighted("conv2d", x, "b");
  maker.output({a, b});
  const auto placement = place(maker.graph);
  ASSERT_NE(find_point(placement, x), nullptr);
  EXPECT_EQ(find_point(placement, x)->quantized_nodes, (openvino::IdList{a, b}));
  EXPECT_EQ(find_point(placement, x)->stop, openvino::StopReason::kMerged);
  EXPECT_EQ(count(placement, PointKind::kActivation), 1u);
}

TEST(Propagation, rule_keeps_branches_apart) {
  GraphMaker maker;
  const int x = maker.input();
  const int a = maker.weighted("conv2d", x, "a"), b = maker.weighted("conv2d", x, "b");
  maker.output({a, b});
  OpenVINOQuantizerOptions options;
  options.quantizer_propagation_rule = QuantizerPropagationRule::kDoNotMergeBranches;
  const auto placement = place(maker.graph, options);
  EXPECT_EQ(find_point(placement, x), nullptr);
  EXPECT_NE(find_point(placement, a, PointKind::kActivation, 0), nullptr);
  EXPECT_NE(find_point(placement, b, PointKind::kActivation, 0), nullptr);
}

/// A depthwise convolution allows activations per channel too: its candidates are others, with some in common.
TEST(Propagation, rule_merges_only_branches_with_the_same_candidates) {
  OpenVINOQuantizerOptions options;
  options.quantizer_propagation_rule = QuantizerPropagationRule::kMergeIfAllBranchesSame;
  for (const bool same : {true, false}) {
    GraphMaker maker;
    const int x = maker.input();
    const int a = maker.weighted("conv2d", x, "a"), b = maker.weighted("conv2d", x, "b");
    if (!same) maker.graph.nodes[b].metatype = openvino::metatype_index("PTDepthwiseConv2dSubtype");
    maker.output({a, b});
    EXPECT_NE(find_point(place(maker.graph), x), nullptr) << "all in one: both share a quantizer";
    const auto placement = place(maker.graph, options);
    EXPECT_EQ(find_point(placement, x) != nullptr, same);
    EXPECT_EQ(find_point(placement, b, PointKind::kActivation, 0) != nullptr, !same);
    EXPECT_EQ(count(placement, PointKind::kActivation), same ? 1u : 2u);
  }
}

/// Attention allows symmetric only, a convolution with the mixed preset asymmetric only.
TEST(Propagation, rules_differ_where_branches_have_no_common_configuration) {
  GraphMaker maker;
  const int x = maker.input();
  const int conv = maker.weighted("conv2d", x);
  const int attention = maker.op("scaled_dot_product_attention", {x, maker.input("k"), maker.input("v")});
  maker.output({conv, attention});
  OpenVINOQuantizerOptions options;
  options.preset = QuantizationPreset::kMixed;
  for (const auto rule :
       {QuantizerPropagationRule::kMergeAllInOne, QuantizerPropagationRule::kMergeIfAllBranchesSame}) {
    options.quantizer_propagation_rule = rule;
    const auto placement = place(maker.graph, options);
    EXPECT_EQ(find_point(placement, x), nullptr);
    ASSERT_NE(find_point(placement, conv, PointKind::kActivation, 0), nullptr);
    EXPECT_EQ(find_point(placement, conv, PointKind::kActivation, 0)->config().mode, QuantizationScheme::kAsymmetric);
    EXPECT_EQ(find_point(placement, attention, PointKind::kActivation, 0)->config().mode,
              QuantizationScheme::kSymmetric);
  }
}

/// Asymmetric first, symmetric below it: requantization only restricts the values, so one quantizer moves up.
TEST(Propagation, requantization_rule_places_a_common_quantizer_above) {
  GraphMaker maker;
  const int x = maker.input();
  const int conv = maker.weighted("conv2d", x);
  const int attention = maker.op("scaled_dot_product_attention", {x, maker.input("k"), maker.input("v")});
  maker.output({conv, attention});
  OpenVINOQuantizerOptions options;
  options.preset = QuantizationPreset::kMixed;
  options.quantizer_propagation_rule = QuantizerPropagationRule::kMergeWithPotentialRequantization;
  const auto placement = place(maker.graph, options);
  ASSERT_NE(find_point(placement, x), nullptr);
  EXPECT_EQ(find_point(placement, x)->config().mode, QuantizationScheme::kAsymmetric);
  ASSERT_NE(find_point(placement, attention, PointKind::kActivation, 0), nullptr);
  EXPECT_EQ(find_point(placement, conv, PointKind::kActivation, 0), nullptr);
}

TEST(Propagation, a_float_consumer_blocks_the_branch) {
  GraphMaker maker;
  const int x = maker.op("tanh", {maker.input()});
  const int conv = maker.weighted("conv2d", x);
  const int sin = maker.op("sin", {x});
  maker.output({conv, sin});
  const auto placement = place(maker.graph);
  EXPECT_EQ(find_point(placement, x), nullptr);
  ASSERT_NE(find_point(placement, conv, PointKind::kActivation, 0), nullptr);
  EXPECT_EQ(find_point(placement, conv, PointKind::kActivation, 0)->stop, openvino::StopReason::kOtherConsumer);
}

TEST(Propagation, a_returned_tensor_blocks_the_branch_unless_outputs_are_quantized) {
  GraphMaker maker;
  const int x = maker.op("tanh", {maker.input()});
  const int conv = maker.weighted("conv2d", x);
  maker.output({conv, x});
  const auto blocked = place(maker.graph);
  EXPECT_EQ(find_point(blocked, x), nullptr);
  OpenVINOQuantizerOptions options;
  options.quantize_outputs = true;
  const auto merged = place(maker.graph, options);
  EXPECT_NE(find_point(merged, x), nullptr);
  EXPECT_NE(find_point(merged, conv), nullptr);
}

TEST(Propagation, inputs_of_a_concatenation_before_a_convolution_share_their_scale) {
  GraphMaker maker;
  const int a = maker.op("tanh", {maker.input("a")}), b = maker.op("tanh", {maker.input("b")}, "tanh_1");
  maker.output({maker.weighted("conv2d", maker.op("cat", {a, b}))});
  const auto placement = place(maker.graph);
  ASSERT_NE(find_point(placement, a), nullptr);
  ASSERT_NE(find_point(placement, b), nullptr);
  const std::vector<int> ids = {find_point(placement, a)->id, find_point(placement, b)->id};
  EXPECT_EQ(placement.setup.unified_groups, std::vector<std::vector<int>>{ids});
}

TEST(Propagation, inputs_of_a_concatenation_before_a_matmul_do_not) {
  GraphMaker maker;
  const int a = maker.op("tanh", {maker.input("a")}), b = maker.op("tanh", {maker.input("b")}, "tanh_1");
  const int other = maker.op("tanh", {maker.input("c")}, "tanh_2");
  maker.output({maker.op("matmul", {maker.op("cat", {a, b}), other})});
  EXPECT_TRUE(place(maker.graph).setup.unified_groups.empty());
}

TEST(Propagation, an_operation_with_a_constant_gets_no_quantizer_of_its_own) {
  GraphMaker maker;
  const int tanh = maker.op("tanh", {maker.input()});
  const int add = maker.op("add", {tanh, maker.constant()});
  maker.output({maker.op("tanh", {add}, "tanh_1")});
  const auto placement = place(maker.graph);
  EXPECT_TRUE(placement.setup.points.empty());
  EXPECT_EQ(placement.fates[add], openvino::Fate::kConstantOperand);
}

TEST(Propagation, a_tensor_added_to_itself_is_quantized_once) {
  GraphMaker maker;
  const int tanh = maker.op("tanh", {maker.input()});
  const int add = maker.op("add", {tanh, tanh});
  maker.output({add});
  const auto placement = place(maker.graph);
  EXPECT_EQ(placement.setup.points.size(), 1u);
  EXPECT_NE(find_point(placement, tanh), nullptr);
}

TEST(Propagation, integer_tensors_get_no_quantizer) {
  GraphMaker maker;
  const int a = maker.op("tanh", {maker.input("a")}), b = maker.op("exp", {maker.input("b")});
  const int add = maker.op("add", {a, b});
  maker.output({add});
  auto graph = maker.graph;
  for (auto& edge : graph.edges) edge.integer = edge.from == b;
  const auto placement = place(graph);
  EXPECT_EQ(find_point(placement, b), nullptr);
  EXPECT_EQ(find_point(placement, add, PointKind::kActivation, 1), nullptr);
}

TEST(Propagation, an_embedding_is_quantized_by_its_table) {
  GraphMaker maker;
  const int embedding = maker.weighted("embedding", maker.input("ids"));
  maker.output({maker.weighted("linear", embedding)});
  auto graph = maker.graph;
  for (auto& edge : graph.edges) edge.integer = graph.nodes[edge.from].kind == openvino::PlacementKind::kInput;
  const auto performance = place(graph);
  EXPECT_EQ(count(performance, PointKind::kActivation), 0u);
  const auto* table = find_point(performance, embedding, PointKind::kWeight);
  ASSERT_NE(table, nullptr);
  EXPECT_FALSE(table->config().per_channel);

  OpenVINOQuantizerOptions options;  // asymmetric activations have nothing in common with the table's list
  options.preset = QuantizationPreset::kMixed;
  const auto mixed = place(graph, options);
  EXPECT_EQ(count(mixed, PointKind::kActivation), 1u);
  EXPECT_TRUE(find_point(mixed, embedding, PointKind::kWeight)->config().per_channel);
}

TEST(Propagation, constants_and_what_is_computed_from_them_are_left_out) {
  GraphMaker maker;
  const int folded = maker.op("tanh", {maker.constant("c")});
  const int mul = maker.op("mul", {folded, maker.constant("d")});
  const int add = maker.op("add", {maker.op("tanh", {maker.input()}, "tanh_1"), mul});
  maker.output({add});
  const auto placement = place(maker.graph);
  EXPECT_TRUE(placement.setup.points.empty());
  EXPECT_EQ(placement.fates[mul], openvino::Fate::kConstant);
}

TEST(Propagation, dropout_is_transparent) {
  GraphMaker maker;
  const int tanh = maker.op("tanh", {maker.input()});
  maker.output({maker.weighted("linear", maker.op("dropout", {tanh}))});
  EXPECT_NE(find_point(place(maker.graph), tanh), nullptr);
}

TEST(Propagation, merging_prefers_the_configuration_with_the_best_sum_of_positions) {
  using openvino::QConfig;
  const QConfig symmetric, asymmetric{8, QuantizationScheme::kAsymmetric};
  const QConfig by_channel{8, QuantizationScheme::kSymmetric, c10::nullopt, true};
  const openvino::QConfigList depthwise = {by_channel, symmetric, asymmetric}, plain = {asymmetric, symmetric};
  const auto decision = openvino::decide_merge(QuantizerPropagationRule::kMergeAllInOne, {&depthwise, &plain});
  ASSERT_TRUE(decision.merge);
  // symmetric: 1 + 1, asymmetric: 2 + 0; the tie goes to symmetric.
  EXPECT_EQ(decision.above, (openvino::QConfigList{symmetric, asymmetric}));
}

/// Seconds to place quantizers on a chain of that many blocks; the fastest of three runs.
double placement_seconds(int blocks) {
  GraphMaker maker;
  int x = maker.input();
  for (int i = 0; i < blocks; ++i) {
    const std::string n = std::to_string(i);
    const int branch = maker.weighted("conv2d", x, "conv_" + n);
    x = maker.op("reshape", {x}, "reshape_" + n);
    if (i % 100 == 99) x = maker.op("add", {maker.op("relu", {branch}, "relu_" + n), x}, "add_" + n);
  }
  maker.output({x});
  double fastest = std::numeric_limits<double>::max();
  for (int run = 0; run < 3; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_GT(place(maker.graph).setup.points.size(), static_cast<size_t>(blocks));
    fastest = std::min(fastest, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return fastest;
}

/// A quadratic algorithm takes 64 times as long.
TEST(Propagation, a_long_chain_of_branches_takes_linear_time) {
  EXPECT_LT(placement_seconds(16000), 24 * placement_seconds(2000));
}

}  // namespace
}  // namespace tsquant::testing
