#include "passes/decompose_attention.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "graph/names.h"
#include "graph/params.h"
#include "passes/rewrite_runner.h"
#include "support/rewrite.h"
#include "support/support.h"
#include "tsquant/graph_view.h"

namespace tsquant::testing {
namespace {

constexpr int64_t kBatch = 3, kLength = 5, kSize = 8, kHidden = 12;

std::vector<std::pair<std::string, at::Tensor>> attention_parameters() {
  at::manual_seed(3);
  return {{"qkv_w", at::randn({3 * kSize, kSize})},
          {"qkv_b", at::randn({3 * kSize})},
          {"out_w", at::randn({kSize, kSize})},
          {"out_b", at::randn({kSize})}};
}

std::vector<std::pair<std::string, at::Tensor>> layer_parameters() {
  auto params = attention_parameters();
  params.insert(params.end(), {{"norm1_w", at::rand({kSize}) + 0.5},
                               {"norm1_b", at::randn({kSize})},
                               {"norm2_w", at::rand({kSize}) + 0.5},
                               {"norm2_b", at::randn({kSize})},
                               {"ffn1_w", at::randn({kHidden, kSize})},
                               {"ffn1_b", at::randn({kHidden})},
                               {"ffn2_w", at::randn({kSize, kHidden})},
                               {"ffn2_b", at::randn({kSize})}});
  return params;
}

Sample three_sequences() {
  at::manual_seed(4);
  Sample sample;
  for (int i = 0; i < 3; ++i) sample.args.emplace_back(at::randn({kBatch, kLength, kSize}));
  return sample;
}

bool decompose(Model& model) { return RewriteRunner(model).run_pass("decompose_attention"); }

/// Rewrites, compares with what the fused operator computed, and returns the rewritten model.
Model decomposed(const torch::jit::Module& module, const Sample& sample, bool expected_change = true) {
  Model model = Model::from(module);
  run_passes(model);
  const auto before = model.run(sample);
  EXPECT_EQ(decompose(model), expected_change) << *model.graph();
  EXPECT_NO_THROW(model.graph()->lint());
  expect_same(before, model.run(sample));
  EXPECT_FALSE(decompose(model)) << "a second run finds nothing";
  return model;
}

/// What the rewrite of attention needs and leaves: all weights are parameters, all operators have their own names.
void expect_quantizable(const Model& model, size_t linears) {
  EXPECT_EQ(count_kind(model, "aten::linear"), linears);
  for (const auto* node : nodes_of_kind(model.graph()->block(), {"aten::linear"})) {
    EXPECT_TRUE(param_of(model, node->input(1))) << *node;
  }
  const GraphView view(model);
  std::set<std::string> names, aliases;
  for (const auto& node : view.nodes()) {
    if (node.kind != NodeKind::kOperator) continue;
    EXPECT_TRUE(names.insert(node.name).second) << node.name;
    EXPECT_TRUE(aliases.insert(node.fx_name).second) << node.fx_name;
  }
}

std::string multi_head(const std::string& arguments, const std::string& mask, const std::string& flags,
                       const std::string& result = "out, weights") {
  return fmt::format(R"(
def forward(self, x, y, z):
    key_mask = torch.gt(x[:, :, 0], 0.7)
    keys = torch.logical_not(torch.eq(torch.cumsum(torch.ones_like(x[:, :, 0]), 1), 1))
    key_mask = torch.logical_and(key_mask, keys)
    full_mask = torch.unsqueeze(torch.unsqueeze(key_mask, 1), 2).expand([3, 2, 5, 5])
    out, weights = torch._native_multi_head_attention({}, 8, 2, self.qkv_w, self.qkv_b, self.out_w, self.out_b,
                                                      {}, {})
    return {}
)",
                     arguments, mask.substr(0, mask.find(';')), flags + ", " + mask.substr(mask.find(';') + 1), result);
}

class MultiHead : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(MultiHead, ComputesTheSame) {
  const auto& [arguments, mask] = GetParam();
  const size_t projections = arguments == "x, x, x" ? 1 : arguments == "x, y, z" ? 3 : 2;
  for (const std::string average : {"True", "False"}) {
    const auto module = define(multi_head(arguments, mask, "True, " + average), attention_parameters());
    const Model model = decomposed(module, three_sequences());
    expect_quantizable(model, projections + 1);
    EXPECT_EQ(count_kind(model, "aten::matmul"), 2u) << "the weights are read, so both products are spelled out";
    EXPECT_EQ(count_kind(model, "aten::sum"), average == "True" ? 1u : 0u);
  }
  for (const std::string flags : {"False, True", "True, True"}) {
    const auto module = define(multi_head(arguments, mask, flags, "out"), attention_parameters());
    const Model model = decomposed(module, three_sequences());
    expect_quantizable(model, projections + 1);
    EXPECT_EQ(count_kind(model, "aten::_scaled_dot_product_attention"), 1u);
    EXPECT_EQ(count_kind(model, "aten::softmax"), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(DecomposeAttention, MultiHead,
                         ::testing::Combine(::testing::Values("x, x, x", "x, y, y", "x, x, y", "x, y, z"),
                                            ::testing::Values("None;None", "key_mask;1", "key_mask;2", "full_mask;2",
                                                              "key_mask.to(6);1")));

TEST(DecomposeAttention, FlagsKnownAtRunTimeBecomeBranches) {
  const auto module = define(R"(
def forward(self, x, need_weights: bool, mask: Optional[Tensor]):
    mask_type: Optional[int] = None
    if mask is not None:
        mask_type = 1
    out, weights = torch._native_multi_head_attention(x, x, x, 8, 2, self.qkv_w, self.qkv_b, self.out_w, self.out_b,
                                                      mask, need_weights, True, mask_type)
    if need_weights:
        out = torch.cat([out, weights], -1)
    return out
)",
                             attention_parameters());
  at::manual_seed(5);
  const at::Tensor x = at::randn({kBatch, kLength, kSize}), mask = at::arange(kLength).expand({kBatch, kLength}) > 2;
  for (const bool need_weights : {false, true}) {
    for (const auto& given : {c10::IValue(), c10::IValue(mask)}) {
      const Model model = decomposed(module, {{x, need_weights, given}, {}});
      expect_quantizable(model, 2);
    }
  }
}

std::string encoder(const std::string& use_gelu, const std::string& norm_first, const std::string& mask) {
  return fmt::format(R"(
def forward(self, x, y, z):
    key_mask = torch.gt(torch.cumsum(torch.ones_like(x[:, :, 0]), 1), 3)
    return torch._transformer_encoder_layer_fwd(
        x, 8, 2, self.qkv_w, self.qkv_b, self.out_w, self.out_b, {}, {}, 1e-3, self.norm1_w, self.norm1_b,
        self.norm2_w, self.norm2_b, self.ffn1_w, self.ffn1_b, self.ffn2_w, self.ffn2_b, {})
)",
                     use_gelu, norm_first, mask);
}

TEST(DecomposeAttention, EncoderLayers) {
  for (const std::string use_gelu : {"False", "True"}) {
    for (const std::string norm_first : {"False", "True"}) {
      for (const std::string mask : {"None, None", "key_mask, 1"}) {
        const auto module = define(encoder(use_gelu, norm_first, mask), layer_parameters());
        const Model model = decomposed(module, three_sequences());
        expect_quantizable(model, 4);
        EXPECT_EQ(count_kind(model, "aten::layer_norm"), 2u);
        EXPECT_EQ(count_kind(model, use_gelu == "True" ? "aten::gelu" : "aten::relu"), 1u);
        EXPECT_EQ(count_kind(model, use_gelu == "True" ? "aten::relu" : "aten::gelu"), 0u);
        EXPECT_EQ(count_kind(model, "aten::_native_multi_head_attention"), 0u);
      }
    }
  }
}

TEST(DecomposeAttention, MaskOfQueriesFitsTheScores) {
  // LibTorch's CPU kernel refuses this mask, so the reference is the product operator on the same projections.
  auto params = attention_parameters();
  const auto module = define(R"(
def forward(self, x):
    mask = torch.tril(torch.ones([5, 5], device=x.device)) == 0
    out, weights = torch._native_multi_head_attention(x, x, x, 8, 2, self.qkv_w, self.qkv_b, self.out_w, self.out_b,
                                                      mask, False, True, 0)
    return out
)",
                             params);
  const auto reference = define(R"(
def forward(self, x):
    q, k, v = torch.chunk(torch.linear(x, self.qkv_w, self.qkv_b), 3, -1)
    q = torch.transpose(q.reshape([3, 5, 2, 4]), 1, 2)
    k = torch.transpose(k.reshape([3, 5, 2, 4]), 1, 2)
    v = torch.transpose(v.reshape([3, 5, 2, 4]), 1, 2)
    out, weights = torch._scaled_dot_product_attention(q, k, v, None, 0.0, False, True)
    return torch.linear(torch.transpose(out, 1, 2).reshape([3, 5, 8]), self.out_w, self.out_b)
)",
                                params);
  const Sample sample{{three_sequences().args[0]}, {}};
  Model model = Model::from(module);
  EXPECT_TRUE(decompose(model));
  expect_same(Model::from(reference).run(sample), model.run(sample));
}

std::string product(const std::string& arguments, const std::string& result = "out, weights") {
  return fmt::format(R"(
def forward(self, x, y, z):
    visible = torch.tril(torch.ones([5, 5], device=x.device)) == 1
    out, weights = torch._scaled_dot_product_attention(x, y, z, {})
    return {}
)",
                     arguments, result);
}

TEST(DecomposeAttention, ProductsWhoseWeightsAreRead) {
  struct Case {
    const char *arguments, *kind;
  };
  for (const Case& c : {Case{"None, 0.0, True, False", "aten::softmax"}, Case{"None, 0.0, True, True", "aten::tril"},
                        Case{"visible, 0.0, True, False", "aten::masked_fill"},
                        Case{"torch.bmm(z, torch.transpose(x, 1, 2)), 0.0, True, False", "aten::add"}}) {
    const Model model = decomposed(define(product(c.arguments)), three_sequences());
    EXPECT_GE(count_kind(model, c.kind), 1u) << c.arguments;
    EXPECT_EQ(count_kind(model, "aten::matmul"), 2u);
    EXPECT_EQ(count_kind(model, "aten::_scaled_dot_product_attention"), 0u);
  }
}

TEST(DecomposeAttention, ProductsWithoutWeightsStay) {
  for (const char* flag : {"True", "False"}) {
    const auto module = define(product(fmt::format("visible, 0.0, {}, False", flag), "out"));
    EXPECT_TRUE(decomposed(module, three_sequences(), /*expected_change=*/false).warnings().empty());
  }
}

TEST(DecomposeAttention, NamesAreThoseOfCapture) {
  const auto child = [](const std::string& name) {
    return std::pair(name, define("def forward(self, x):\n    return x\n",
                                  {{"weight", at::randn({kSize, kSize})}, {"bias", at::randn({kSize})}}));
  };
  auto attention = define("def forward(self, x):\n    return x\n", attention_parameters(), {child("out_proj")});
  const auto module =
      define(R"(
def forward(self, x):
    x = torch.linear(x, self.first)
    x = torch._transformer_encoder_layer_fwd(
        x, 8, 2, self.self_attn.qkv_w, self.self_attn.qkv_b, self.self_attn.out_proj.weight,
        self.self_attn.out_proj.bias, False, False, 1e-5, self.norm1.bias, self.norm1.bias, self.norm2.bias,
        self.norm2.bias, self.linear1.weight, self.linear1.bias, self.linear2.weight, self.linear2.bias, None, None)
    return torch.linear(x, self.first)
)",
             {{"first", at::randn({kSize, kSize})}},
             {{"self_attn", attention}, child("norm1"), child("norm2"), child("linear1"), child("linear2")});
  const Model model = decomposed(module, {{at::randn({2, 4, kSize})}, {}});
  std::vector<std::string> linears, aliases, others;
  const GraphView view(model);
  for (const auto& node : view.nodes()) {
    if (node.kind != NodeKind::kOperator) continue;
    if (node.type == "linear") {
      linears.push_back(node.name);
      aliases.push_back(node.fx_name);
    } else if (node.type == "layer_norm" || node.type == "scaled_dot_product_attention" || node.type == "add") {
      others.push_back(node.name);
    }
  }
  using Names = std::vector<std::string>;
  EXPECT_EQ(linears, (Names{"/linear/0", "self_attn/linear/0", "self_attn/linear/1", "linear1/linear/0",
                            "linear2/linear/0", "/linear/1"}));
  EXPECT_EQ(others, (Names{"self_attn/scaled_dot_product_attention/0", "/add/0", "norm1/layer_norm/0", "/add/1",
                           "norm2/layer_norm/0"}));
  EXPECT_EQ(aliases, (Names{"linear", "linear_4", "linear_5", "linear_2", "linear_3", "linear_1"}));
}

TEST(DecomposeAttention, InsideBranchesAndLoops) {
  const auto module = define(R"(
def forward(self, x, wide: bool, n: int):
    for i in range(n):
        if wide:
            x = torch._native_multi_head_attention(x, x, x, 8, 4, self.qkv_w, self.qkv_b, self.out_w, self.out_b,
                                                   None, False, True, None)[0]
        else:
            x = torch._native_multi_head_attention(x, x, x, 8, 2, self.qkv_w, self.qkv_b, self.out_w, self.out_b,
                                                   None, False, True, None)[0]
    return x
)",
                             attention_parameters());
  for (const bool wide : {false, true}) {
    const Model model = decomposed(module, {{at::randn({2, 4, kSize}), wide, 2}, {}});
    EXPECT_EQ(count_kind(model, "aten::_native_multi_head_attention"), 0u);
    expect_quantizable(model, 4);
  }
}

/// What the fused operator says and does when it cannot be taken apart.
void expect_whole(const torch::jit::Module& module, const std::string& kind, const std::string& reason) {
  Model model = Model::from(module);
  run_passes(model);
  const std::string before = model.graph()->toString(false);
  EXPECT_FALSE(decompose(model));
  EXPECT_EQ(model.graph()->toString(false), before);
  const auto nodes = nodes_of_kind(model.graph()->block(), {kind});
  ASSERT_EQ(nodes.size(), 1u);
  EXPECT_EQ(attention_obstacle(model, nodes[0]), reason);
  ASSERT_EQ(model.warnings().size(), 1u);
  EXPECT_EQ(model.warnings()[0], names_of(nodes[0]).name + " is not taken apart: " + reason);
}

std::string nested_layer(const std::string& input, const std::string& mask = "None, None") {
  return fmt::format(
      "torch._transformer_encoder_layer_fwd({}, 8, 2, self.qkv_w, self.qkv_b, self.out_w, self.out_b, True, False, "
      "1e-5, self.norm1_w, self.norm1_b, self.norm2_w, self.norm2_b, self.ffn1_w, self.ffn1_b, self.ffn2_w, "
      "self.ffn2_b, {})\n",
      input, mask);
}

Sample padded_batch(const std::vector<int64_t>& lengths) {
  at::manual_seed(6);
  return {{at::randn({kBatch, kLength, kSize}),
           at::arange(kLength).expand({kBatch, kLength}) < at::tensor(lengths).unsqueeze(1)},
          {}};
}

TEST(DecomposeAttention, ChainsOfLayersOnNestedTensorsBecomePadded) {
  const auto module = define(
      "def forward(self, x, mask):\n    n = torch._nested_tensor_from_mask(x, mask, False)\n"
      "    n = " +
          nested_layer("n") + "    n = " + nested_layer("n") + "    return torch.nested_to_padded_tensor(n, 0.5)\n",
      layer_parameters());
  // The result is as long as the longest row.
  for (const auto& lengths : std::vector<std::vector<int64_t>>{{5, 2, 4}, {3, 3, 3}, {1, 4, 2}}) {
    const Model model = decomposed(module, padded_batch(lengths));
    EXPECT_EQ(count_kind(model, "aten::_nested_tensor_from_mask"), 0u);
    EXPECT_TRUE(model.warnings().empty());
    expect_quantizable(model, 8);
  }
  // A mask with holes counts its ones.
  Sample holes = padded_batch({5, 2, 4});
  holes.args[1] = at::tensor({0, 1, 1, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1}).reshape({kBatch, kLength}) == 1;
  decomposed(module, holes);
}

TEST(DecomposeAttention, OtherNestedTensorsStay) {
  const std::string kind = "aten::_transformer_encoder_layer_fwd";
  const std::string reason = "its input may be a nested tensor (rows of different length)";
  const std::string begin = "    n = torch._nested_tensor_from_mask(x, mask, False)\n";
  const auto read_twice = define("def forward(self, x, mask):\n" + begin + "    m = " + nested_layer("n") +
                                     "    m = torch.nested_to_padded_tensor(m, 0.0)\n"
                                     "    return m + torch.nested_to_padded_tensor(n, 0.0)\n",
                                 layer_parameters());
  expect_whole(read_twice, kind, reason);
  const auto carried = define(
      "def forward(self, x, mask, short: bool, n: int):\n    y = x\n"
      "    for i in range(n):\n        y = " +
          nested_layer("y") +
          "        if short:\n            y = torch._nested_tensor_from_mask(x, mask, False)\n"
          "    return torch.nested_to_padded_tensor(y, 0.0)\n",
      layer_parameters());
  expect_whole(carried, kind, reason);
  const auto after = define("def forward(self, x, mask):\n" + begin +
                                "    y = torch.nested_to_padded_tensor(n, 0.0)\n    return " + nested_layer("y"),
                            layer_parameters());
  decomposed(after, padded_batch({5, 2, 4}));
}

TEST(DecomposeAttention, OtherObstacles) {
  const std::string product_kind = "aten::_scaled_dot_product_attention",
                    head_kind = "aten::_native_multi_head_attention";
  expect_whole(define(product("None, 0.1, True, False")), product_kind, "it drops values at random");
  expect_whole(define(product("None, 0.0, False, False")), product_kind,
               "its attention weights are read but not computed");
  const std::string head =
      "def forward(self, x, y, z):\n"
      "    return torch._native_multi_head_attention(x, y, z, 8, 2, self.qkv_w * 2.0, self.qkv_b, self.out_w, "
      "self.out_b, None, True, True, None";
  expect_whole(define(head + ")\n", attention_parameters()), head_kind,
               "the graph computes its projection weights, and its arguments differ");
  expect_whole(define(head + ", out0=x, out1=y)\n", attention_parameters()), head_kind,
               "it writes its result into a given tensor");
}

}  // namespace
}  // namespace tsquant::testing
