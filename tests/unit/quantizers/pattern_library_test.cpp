#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "golden_graph.h"
#include "quantizers/openvino/pattern.h"

namespace tsquant::testing {
namespace {

using Strings = std::vector<std::string>;

const Strings kLinear = {"linear", "conv1d",           "conv2d",           "conv3d",           "matmul",
                         "addmm",  "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "deform_conv2d",
                         "bmm",    "baddbmm"};
const Strings kActivations = {"relu", "hardtanh", "elu",  "prelu",       "leaky_relu", "sigmoid",
                              "gelu", "silu",     "selu", "hardsigmoid", "hardswish"};
const Strings kArithmetic = {"add", "sub", "mul", "div"};

/// Groups of at least two operators, each as "conv2d + relu"; the names are those given to the maker.
Strings groups(const GraphMaker& maker, const std::vector<openvino::Pattern>& patterns) {
  const auto graph = openvino::make_inference_graph(maker.graph);
  Strings result;
  for (const auto& match : openvino::find_matches(graph, patterns)) {
    if (match.size() < 2) continue;
    Strings names;
    for (const int node : match) names.push_back(maker.graph.name_of(node));
    result.push_back(fmt::format("{}", fmt::join(names, " + ")));
  }
  std::sort(result.begin(), result.end());
  return result;
}

Strings fused(const GraphMaker& maker) { return groups(maker, openvino::fused_patterns()); }

/// tanh -> first -> second -> ... -> output; every operator with a constant as second argument.
GraphMaker chain(const Strings& functions) {
  GraphMaker maker;
  int value = maker.op("tanh", {maker.input()}, "before");
  for (const auto& function : functions) value = maker.weighted(function, value, function);
  maker.output({maker.op("tanh", {value}, "after")});
  return maker;
}

/// One group of all operators in a row.
void expect_fused(const Strings& functions) {
  EXPECT_EQ(fused(chain(functions)), Strings{fmt::format("{}", fmt::join(functions, " + "))});
}

TEST(FusedPatterns, linear_operators_with_what_follows) {
  for (const auto& linear : kLinear) {
    for (const auto& activation : kActivations) {
      expect_fused({linear, activation});
      expect_fused({linear, "batch_norm", activation});
      expect_fused({linear, activation, "batch_norm"});
    }
    for (const auto& arithmetic : kArithmetic) expect_fused({linear, arithmetic});
    expect_fused({linear, "batch_norm"});
    for (const std::string shift : {"add", "sub"}) {
      for (const std::string scale : {"mul", "div"}) expect_fused({linear, shift, scale});
    }
    EXPECT_TRUE(fused(chain({linear, "tanh"})).empty());
    EXPECT_TRUE(fused(chain({linear, "relu6"})).empty()) << "not among NNCF's activations";
  }
}

TEST(FusedPatterns, arithmetic_and_norms_with_what_follows) {
  for (const auto& activation : kActivations) {
    for (const auto& arithmetic : kArithmetic) {
      expect_fused({arithmetic, activation});
      expect_fused({arithmetic, "batch_norm", activation});
      expect_fused({arithmetic, activation, "batch_norm"});
    }
    expect_fused({"batch_norm", activation});
    expect_fused({activation, "batch_norm"});
    expect_fused({"group_norm", activation});
    EXPECT_TRUE(fused(chain({"layer_norm", activation})).empty());
  }
  for (const auto& arithmetic : kArithmetic) expect_fused({arithmetic, "batch_norm"});
  for (const std::string shift : {"add", "sub"}) {
    for (const std::string scale : {"mul", "div"}) expect_fused({shift, scale});
  }
  EXPECT_TRUE(fused(chain({"mul", "add"})).empty());
}

TEST(FusedPatterns, normalisation_of_an_input) {
  GraphMaker maker;
  const int shifted = maker.weighted("sub", maker.input("image"), "sub");
  maker.output({maker.weighted("div", shifted, "div")});
  EXPECT_EQ(fused(maker), Strings{"image + sub + div"});
}

TEST(FusedPatterns, a_linear_operator_added_to_itself) {
  GraphMaker maker;
  const int conv = maker.weighted("conv2d", maker.op("tanh", {maker.input()}, "before"), "conv2d");
  maker.output({maker.op("add", {conv, conv}, "add")});
  EXPECT_EQ(fused(maker), Strings{"conv2d + add"});
}

TEST(FusedPatterns, every_operator_in_the_middle_has_one_consumer) {
  GraphMaker maker;
  const int conv = maker.weighted("conv2d", maker.input(), "conv2d");
  maker.output({maker.op("relu", {conv}, "relu"), maker.op("tanh", {conv}, "tanh")});
  EXPECT_TRUE(fused(maker).empty());
}

/// Writes an activation out behind a convolution.
using Write = std::function<int(GraphMaker&, int)>;

Strings fused_behind_convolution(const Write& write) {
  GraphMaker maker;
  const int conv = maker.weighted("conv2d", maker.op("tanh", {maker.input()}, "before"), "conv2d");
  maker.output({maker.op("tanh", {write(maker, conv)}, "after")});
  return fused(maker);
}

TEST(FusedPatterns, activations_written_out) {
  EXPECT_EQ(fused_behind_convolution([](GraphMaker& maker, int x) {
              return maker.op("mul", {x, maker.op("sigmoid", {x}, "sigmoid")}, "mul");
            }),
            Strings{"conv2d + sigmoid + mul"});
  for (const std::string clip : {"hardtanh", "relu6"}) {
    const auto clipped = [clip](GraphMaker& maker, int x) {
      return maker.op(clip, {maker.op("add", {x}, "add")}, clip);
    };
    EXPECT_EQ(fused_behind_convolution([&](GraphMaker& maker, int x) {
                return maker.op("div", {maker.op("mul", {x, clipped(maker, x)}, "mul")}, "div");
              }),
              Strings{"conv2d + add + " + clip + " + mul + div"});
    EXPECT_EQ(fused_behind_convolution([&](GraphMaker& maker, int x) {
                return maker.op("mul", {x, maker.op("div", {clipped(maker, x)}, "div")}, "mul");
              }),
              Strings{"conv2d + add + " + clip + " + div + mul"});
    EXPECT_EQ(
        fused_behind_convolution([&](GraphMaker& maker, int x) { return maker.op("div", {clipped(maker, x)}, "div"); }),
        Strings{"conv2d + add + " + clip + " + div"});
  }
}

TEST(FusedPatterns, normalisation_to_length_one) {
  GraphMaker maker;
  const int x = maker.op("tanh", {maker.input()}, "before");
  const int sum = maker.op("sum", {maker.op("pow", {x}, "pow")}, "sum");
  const int length = maker.op("add", {maker.op("sqrt", {sum}, "sqrt")}, "add");
  const int ratio = maker.op("div", {x, length}, "div");
  maker.output({maker.op("tanh", {maker.weighted("mul", ratio, "mul")}, "after")});
  EXPECT_EQ(fused(maker), Strings{"pow + sum + sqrt + add + div + mul"});
}

Strings ignored(const GraphMaker& maker, bool transformer, bool attention = true) {
  return groups(maker, openvino::ignored_patterns(transformer, attention));
}

TEST(IgnoredPatterns, output_of_attention) {
  for (const std::string product : {"matmul", "bmm", "mm", "addmm", "baddbmm"}) {
    for (const std::string branch :
         {"reshape", "view", "transpose", "permute", "squeeze", "split", "__getitem__", "select", "cat"}) {
      GraphMaker maker;
      const int scores = maker.op("softmax", {maker.op("tanh", {maker.input("a")}, "a'")}, "softmax");
      const int values = maker.op(branch, {maker.op("tanh", {maker.input("b")}, "b'")}, branch);
      maker.output({maker.op(product, {scores, values}, product)});
      ASSERT_EQ(ignored(maker, true).size(), 1u) << product << branch;
      EXPECT_TRUE(ignored(maker, false).empty()) << "for transformers only";
      EXPECT_TRUE(ignored(maker, true, false).empty()) << "not on CPU_SPR";
    }
  }
  GraphMaker maker;
  const int scores = maker.op("softmax", {maker.op("tanh", {maker.input("a")}, "a'")}, "softmax");
  const int values = maker.op("transpose", {maker.op("tanh", {maker.input("b")}, "b'")}, "transpose");
  maker.output({maker.op("matmul", {maker.op("view", {scores}, "view"), values}, "matmul")});
  const auto found = ignored(maker, true);
  ASSERT_EQ(found.size(), 1u);
  for (const std::string part : {"softmax", "view", "transpose", "matmul"}) {
    EXPECT_NE(found[0].find(part), std::string::npos) << found[0];
  }
}

TEST(IgnoredPatterns, squeeze_and_excitation) {
  for (const std::string pool : {"mean", "adaptive_avg_pool2d", "avg_pool2d", "adaptive_avg_pool3d"}) {
    for (const bool bias : {false, true}) {
      for (const bool reshape : {false, true}) {
        for (const std::string gate : {"sigmoid", "hardsigmoid"}) {
          GraphMaker maker;
          const int x = maker.op("tanh", {maker.input()}, "x'");
          int y = maker.op(pool, {x}, "pool");
          Strings expected;
          const auto add = [&](const std::string& function, const std::string& name, bool weighted) {
            y = weighted ? maker.weighted(function, y, name) : maker.op(function, {y}, name);
            expected.push_back(name);
          };
          if (reshape) add("view", "view1", false);
          add("conv2d", "down", true);
          if (bias) add("add", "bias1", true);
          add("relu", "relu", false);
          add("conv2d", "up", true);
          if (bias) add("sub", "bias2", true);
          add(gate, gate, false);
          if (reshape) add("view", "view2", false);
          maker.output({maker.op("mul", {x, y}, "mul")});
          EXPECT_EQ(ignored(maker, false), Strings{fmt::format("{}", fmt::join(expected, " + "))});
        }
      }
    }
  }
}

TEST(IgnoredPatterns, positions_of_transformers) {
  GraphMaker rotary;
  const int product = rotary.op("matmul", {rotary.input("a"), rotary.input("b")}, "matmul");
  const int cat = rotary.op("cat", {rotary.op("transpose", {product}, "transpose")}, "cat");
  rotary.output({rotary.op("cos", {cat}, "cos"), rotary.op("sin", {cat}, "sin")});
  EXPECT_EQ(ignored(rotary, true), Strings{"matmul + transpose + cat + cos + sin"});
  EXPECT_TRUE(ignored(rotary, false).empty());

  GraphMaker sam;
  const int scaled = sam.op("mul", {sam.op("matmul", {sam.input("a"), sam.input("b")}, "matmul")}, "mul");
  sam.output({sam.op("cat", {sam.op("cos", {scaled}, "cos"), sam.op("sin", {scaled}, "sin")}, "cat")});
  EXPECT_EQ(ignored(sam, true), Strings{"matmul + mul + cos + sin + cat"});
  EXPECT_TRUE(ignored(sam, false).empty());
}

}  // namespace
}  // namespace tsquant::testing
