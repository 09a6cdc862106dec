#include <fmt/format.h>
#include <gtest/gtest.h>

#include "placement_signature.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

using Lines = std::vector<std::string>;
using Params = std::vector<std::pair<std::string, at::Tensor>>;

at::Tensor uniform(std::vector<int64_t> shape) {
  at::manual_seed(static_cast<uint64_t>(shape.size()) * 100 + static_cast<uint64_t>(shape.back()));
  return at::rand(shape) - 0.4;
}

Lines decisions_about(const std::string& body, const Params& params, const std::vector<at::Tensor>& inputs,
                      const OpenVINOQuantizerOptions& options = {}) {
  Sample sample;
  for (const auto& input : inputs) sample.args.emplace_back(input.clone());
  const std::string arguments = inputs.size() == 1 ? "x" : "x, y";
  return placement_signature(Model::from(define("def forward(self, " + arguments + "):\n" + body + "\n", params)),
                             sample, options);
}

/// All bodies get the quantizers of the first one, which has `points` quantized tensors.
void expect_same(const std::vector<std::string>& bodies, const Params& params, const std::vector<at::Tensor>& inputs,
                 size_t points, const OpenVINOQuantizerOptions& options = {}) {
  const auto expected = decisions_about(bodies.front(), params, inputs, options);
  EXPECT_EQ(expected.size(), points) << fmt::format("{}", fmt::join(expected, "\n"));
  for (const auto& body : bodies) {
    const auto lines = decisions_about(body, params, inputs, options);
    EXPECT_EQ(lines, expected) << body << difference(expected, lines);
  }
}

/// The weight of a linear layer, its transpose, and a bias.
Params linear_params() {
  const auto weight = uniform({4, 6});
  return {{"w", weight}, {"wt", weight.t().contiguous()}, {"b", uniform({4})}};
}

TEST(SpellingsOfLinear, with_bias) {
  expect_same({"    return torch.sigmoid(torch.linear(x, self.w, self.b))",
               "    return torch.sigmoid(torch.addmm(self.b, x, self.w.t()))",
               "    return torch.sigmoid(torch.addmm(self.b, x, self.wt))",
               "    return torch.sigmoid(torch.addmm(self.b, x, torch.transpose(self.w, 0, 1)))",
               "    return torch.sigmoid(torch.matmul(x, self.w.t()) + self.b)",
               "    return torch.sigmoid(self.b + torch.matmul(x, self.w.t()))",
               "    return torch.sigmoid(torch.mm(x, self.w.t()).add_(self.b))",
               "    return torch.sigmoid(x.matmul(self.wt).add(self.b))",
               "    y = torch.mm(x, self.wt)\n    y += self.b\n    return y.sigmoid_()"},
              linear_params(), {uniform({5, 6})}, 2);
}

TEST(SpellingsOfLinear, without_bias) {
  expect_same({"    return torch.tanh(torch.linear(x, self.w))", "    return torch.tanh(torch.matmul(x, self.w.t()))",
               "    return torch.tanh(x @ self.wt)", "    return torch.tanh(torch.mm(x, self.w.permute(1, 0)))",
               "    return torch.tanh(torch.matmul(self.w, x.t()).t())"},
              linear_params(), {uniform({5, 6})}, 2);
}

TEST(SpellingsOfLinear, over_a_batch) {
  expect_same({"    return torch.tanh(torch.linear(x, self.w, self.b))",
               "    return torch.tanh(torch.matmul(x, self.w.t()) + self.b)",
               "    return torch.tanh(torch.matmul(x, self.wt) + self.b)",
               "    return torch.tanh(torch.matmul(x, self.wt).add_(self.b))"},
              linear_params(), {uniform({3, 5, 6})}, 2);
}

/// Products of batches with a constant: the bias of baddbmm is no operand to quantize.
TEST(SpellingsOfLinear, batched_products_with_a_constant) {
  expect_same({"    return torch.tanh(torch.baddbmm(self.b, x, self.w))",
               "    return torch.tanh(torch.bmm(x, self.w) + self.b)",
               "    return torch.tanh(torch.matmul(x, self.w) + self.b)",
               "    return torch.tanh(torch.bmm(x, self.w).add_(self.b))"},
              {{"w", uniform({3, 6, 4})}, {"b", uniform({3, 1, 4})}}, {uniform({3, 5, 6})}, 2);
}

TEST(SpellingsOfLinear, products_of_activations) {
  expect_same({"    return torch.tanh(torch.bmm(torch.tanh(x), torch.tanh(y)))",
               "    return torch.tanh(torch.matmul(torch.tanh(x), torch.tanh(y)))",
               "    return torch.tanh(torch.tanh(x) @ torch.tanh(y))",
               "    return torch.tanh(torch.baddbmm(torch.zeros([3, 5, 4]), torch.tanh(x), torch.tanh(y)))"},
              {}, {uniform({3, 5, 6}), uniform({3, 6, 4})}, 2);
}

TEST(SpellingsOfConvolution, two_dimensions) {
  const std::string head = "    y = ", tail = "\n    return torch.tanh(y)";
  const Params params = {{"w", uniform({4, 3, 3, 3})}, {"b", uniform({4})}};
  std::vector<std::string> bodies;
  for (const std::string call :
       {"torch.conv2d(x, self.w, self.b, [1, 1], [1, 1])",
        "torch.conv2d(x, self.w, None, [1, 1], [1, 1]) + self.b[:, None, None]",
        "torch.conv2d(x, self.w, None, [1, 1], [1, 1]).add_(self.b.view(1, 4, 1, 1))",
        "torch.conv2d(x, self.w, self.b, padding='same')",
        "torch.convolution(x, self.w, self.b, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)",
        "torch._convolution(x, self.w, self.b, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, False, False, True, True)"}) {
    bodies.push_back(head + call + tail);
  }
  expect_same(bodies, params, {uniform({2, 3, 5, 5})}, 2);
}

TEST(SpellingsOfConvolution, transposed_and_depthwise) {
  expect_same({"    return torch.tanh(torch.conv_transpose2d(x, self.w))",
               "    return torch.tanh(torch.convolution(x, self.w, None, [1, 1], [0, 0], [1, 1], True, [0, 0], 1))"},
              {{"w", uniform({3, 4, 2, 2})}}, {uniform({2, 3, 5, 5})}, 2);
  expect_same({"    return torch.tanh(torch.conv2d(x, self.w, None, [1, 1], [0, 0], [1, 1], 3))",
               "    return torch.tanh(torch.convolution(x, self.w, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 3))"},
              {{"w", uniform({3, 1, 2, 2})}}, {uniform({2, 3, 5, 5})}, 2);
}

TEST(SpellingsOfConvolution, one_and_three_dimensions) {
  expect_same({"    return torch.tanh(torch.conv1d(torch.tanh(x), self.w))",
               "    return torch.tanh(torch.convolution(torch.tanh(x), self.w, None, [1], [0], [1], False, [0], 1))"},
              {{"w", uniform({4, 3, 2})}}, {uniform({2, 3, 5})}, 2);
  expect_same({"    return torch.tanh(torch.conv3d(x, self.w))",
               "    return torch.tanh(torch.convolution(x, self.w, None, [1, 1, 1], [0, 0, 0], [1, 1, 1], False, "
               "[0, 0, 0], 1))"},
              {{"w", uniform({4, 3, 2, 2, 2})}}, {uniform({2, 3, 5, 5, 5})}, 2);
}

/// convolution -> activation -> batch norm that cannot be folded -> convolution. The device runs the first three as one
/// operator, so nothing between the convolutions but the input of the second is quantized.
TEST(SpellingsOfActivations, in_place_as_out_of_place) {
  const Params params = {
      {"w", uniform({4, 3, 3, 3})}, {"v", uniform({2, 4, 1, 1})}, {"m", uniform({4})}, {"s", at::rand({4}) + 0.5}};
  const std::string head = "    y = torch.conv2d(x, self.w)\n    y = ";
  const std::string tail =
      "\n    y = torch.batch_norm(y, None, None, self.m, self.s, False, 0.1, 1e-5, False)"
      "\n    return torch.tanh(torch.conv2d(y, self.v))";
  const std::vector<std::vector<std::string>> groups = {
      {"torch.relu(y)", "torch.relu_(y)", "y.relu_()"},
      {"torch.hardtanh(y, 0., 6.)", "torch.hardtanh_(y, 0., 6.)", "y.clone().hardtanh_(0., 6.)"},
      {"torch.leaky_relu_(y, 0.1)", "torch.leaky_relu(y, 0.1)"},
      {"torch.elu_(y)", "torch.elu(y, 1.)"},
      {"torch.selu_(y)", "torch.selu(y)"},
      {"torch.sigmoid(y)", "torch.sigmoid_(y)", "y.sigmoid_()"},
      {"torch.silu_(y)", "torch.silu(y)", "y * torch.sigmoid(y)"},
      {"torch.hardswish_(y)", "torch.hardswish(y)", "y * torch.hardtanh(y + 3, 0., 6.) / 6"},
      {"torch.hardsigmoid_(y)", "torch.hardsigmoid(y)", "torch.relu6(y + 3) / 6"},
  };
  for (const auto& group : groups) {
    std::vector<std::string> bodies;
    for (const auto& call : group) bodies.push_back(head + call + tail);
    expect_same(bodies, params, {uniform({2, 3, 5, 5})}, 4);
  }
}

/// Operators that only move values let a quantizer pass, in place or not.
TEST(SpellingsOfMoves, in_place_as_out_of_place) {
  const Params params = {{"w", uniform({4, 6})}};
  expect_same({"    y = torch.tanh(x)\n    return torch.linear(torch.unsqueeze(y, 0), self.w)",
               "    y = torch.tanh(x)\n    return torch.linear(y.unsqueeze_(0), self.w)",
               "    y = torch.tanh(x)\n    return torch.linear(y[None], self.w)",
               "    y = torch.tanh(x)\n    return torch.linear(y.view(1, 5, 6), self.w)"},
              params, {uniform({5, 6})}, 2);
  expect_same({"    return torch.linear(torch.pad(torch.tanh(x), [1, 2]), self.w)",
               "    return torch.linear(torch.constant_pad_nd(torch.tanh(x), [1, 2], 0), self.w)"},
              params, {uniform({5, 3})}, 2);
  expect_same({"    y = torch.tanh(x)\n    return torch.linear(torch.squeeze(y, 0), self.w)",
               "    y = torch.tanh(x)\n    return torch.linear(y.squeeze_(0), self.w)",
               "    y = torch.tanh(x)\n    return torch.linear(y.flatten(0, 1), self.w)"},
              params, {uniform({1, 5, 6})}, 2);
}

TEST(SpellingsOfArithmetic, in_place_as_out_of_place) {
  const Params params = {{"w", uniform({4, 6})}};
  for (const std::string name : {"add", "sub", "mul", "div"}) {
    const std::string sign = name == "add" ? "+" : name == "sub" ? "-" : name == "mul" ? "*" : "/";
    const std::string head = "    a = torch.tanh(x)\n    b = torch.exp(y)\n";
    const std::string tail = "\n    return torch.linear(torch.cos(a), self.w)";
    expect_same({head + "    a = torch." + name + "(a, b)" + tail, head + "    a = a.clone()." + name + "_(b)" + tail,
                 head + "    a = a " + sign + " b" + tail, head + "    a = a.clone()\n    a " + sign + "= b" + tail},
                params, {uniform({5, 6}), uniform({5, 6})}, 4);
  }
}

TEST(SpellingsOfConcatenation, share_one_scale) {
  const Params params = {{"w", uniform({4, 6})}};
  expect_same({"    return torch.linear(torch.cat([torch.tanh(x), torch.exp(y)], 0), self.w)",
               "    return torch.linear(torch.concat((torch.tanh(x), torch.exp(y)), 0), self.w)",
               "    parts = [torch.tanh(x)]\n    parts.append(torch.exp(y))\n"
               "    return torch.linear(torch.cat(parts, 0), self.w)"},
              params, {uniform({5, 6}), uniform({3, 6})}, 4);
}

TEST(SpellingsOfBranches, conditions_over_the_same_operators) {
  const Params params = {{"w", uniform({4, 6})}, {"wt", uniform({4, 6}).t().contiguous()}, {"b", uniform({4})}};
  const std::string tail = "\n    return torch.tanh(z)";
  expect_same(
      {"    if x.size(0) > 3:\n        z = torch.relu(torch.linear(x, self.w, self.b))\n"
       "    else:\n        z = torch.zeros([5, 4])" +
           tail,
       "    if x.size(0) > 3:\n        z = torch.relu(torch.addmm(self.b, x, self.w.t()))\n"
       "    else:\n        z = torch.zeros([5, 4])" +
           tail,
       "    if x.size(0) > 3:\n        z = torch.matmul(x, self.w.t()).add_(self.b).relu_()\n"
       "    else:\n        z = torch.zeros([5, 4])" +
           tail,
       "    z = torch.zeros([5, 4])\n    if x.size(0) > 3:\n        z = torch.relu(torch.linear(x, self.w, self.b))" +
           tail},
      params, {uniform({5, 6})}, 2);
}

/// What a branch computes is quantized as if it stood outside.
TEST(SpellingsOfBranches, a_branch_that_is_taken_as_straight_line) {
  const Params params = {{"w", uniform({4, 6})}, {"v", uniform({3, 4})}, {"b", uniform({4})}};
  const std::string tail = "\n    return torch.tanh(torch.linear(z, self.v))";
  expect_same({"    z = torch.relu(torch.linear(x, self.w, self.b))" + tail,
               "    z = torch.zeros([5, 4])\n    if x.size(0) > 3:\n"
               "        z = torch.addmm(self.b, x, self.w.t()).relu_()" +
                   tail,
               "    if x.dim() == 2:\n        z = torch.addmm(self.b, x, self.w.t())\n"
               "    else:\n        z = torch.matmul(x, self.w.t()) + self.b\n    z = torch.relu(z)" +
                   tail},
              params, {uniform({5, 6})}, 4);
}

TEST(SpellingsOfLoops, bodies_over_the_same_operators) {
  const Params params = {{"w", uniform({6, 6})}, {"b", uniform({6})}};
  const std::string tail = "\n    return torch.tanh(z)";
  const std::string head = "    z = torch.tanh(x)\n    for i in range(x.size(0) - 3):\n        z = ";
  expect_same({head + "torch.sigmoid(torch.linear(z, self.w, self.b))" + tail,
               head + "torch.sigmoid(torch.addmm(self.b, z, self.w.t()))" + tail,
               head + "torch.sigmoid(torch.matmul(z, self.w.t()) + self.b)" + tail,
               head + "torch.mm(z, self.w.t()).add_(self.b).sigmoid_()" + tail},
              params, {uniform({5, 6})}, 2);
}

TEST(SpellingsOfLoops, one_step_as_straight_line) {
  const Params params = {{"w", uniform({6, 6})}, {"v", uniform({3, 6})}};
  const std::string tail = "\n    return torch.tanh(torch.linear(z, self.v))";
  expect_same({"    z = torch.sigmoid(torch.linear(torch.tanh(x), self.w))" + tail,
               "    z = torch.tanh(x)\n    for i in range(x.size(0) - 4):\n"
               "        z = torch.sigmoid(torch.linear(z, self.w))" +
                   tail,
               "    z = torch.tanh(x)\n    i = 0\n    while i < x.size(0) - 4:\n"
               "        z = torch.mm(z, self.w.t()).sigmoid_()\n        i += 1" +
                   tail},
              params, {uniform({5, 6})}, 4);
}

// --- Inputs of other kinds ---

Lines decisions_of(const std::string& source, const std::vector<c10::IValue>& arguments) {
  Sample sample;
  sample.args = arguments;
  return placement_signature(Model::from(define(source + "\n", linear_params())), sample);
}

TEST(SpellingsOfInputs, tensors_in_containers_are_inputs) {
  const auto x = uniform({5, 6});
  const auto expected = decisions_of("def forward(self, x):\n    return torch.linear(x, self.w, self.b)", {x});
  EXPECT_EQ(expected.size(), 2u);
  const std::string result = "    return torch.linear(x, self.w, self.b)";
  c10::Dict<std::string, at::Tensor> dictionary;
  dictionary.insert("x", x);
  EXPECT_EQ(decisions_of("def forward(self, d: Dict[str, Tensor]):\n    x = d['x']\n" + result, {dictionary}),
            expected);
  const c10::List<at::Tensor> list({x, x + 1});
  EXPECT_EQ(decisions_of("def forward(self, l: List[Tensor]):\n    x = l[0]\n" + result, {list}), expected);
  EXPECT_EQ(decisions_of("def forward(self, l: List[Tensor]):\n    x, y = l\n" + result, {list}), expected);
  const auto tuple = c10::ivalue::Tuple::create({x, x + 1});
  EXPECT_EQ(decisions_of("def forward(self, t: Tuple[Tensor, Tensor]):\n    x = t[0]\n" + result, {tuple}), expected);
  EXPECT_EQ(decisions_of("def forward(self, t: Tuple[Tensor, Tensor]):\n    x, y = t\n" + result, {tuple}), expected);
  EXPECT_EQ(decisions_of("def forward(self, x: Optional[Tensor]):\n    assert x is not None\n" + result, {x}),
            expected);
  c10::Dict<std::string, c10::List<at::Tensor>> nested;
  nested.insert("x", c10::List<at::Tensor>({x + 1, x}));
  EXPECT_EQ(decisions_of("def forward(self, d: Dict[str, List[Tensor]]):\n    x = d['x'][1]\n" + result, {nested}),
            expected);
}

/// The elements of a tuple are tensors of their own: no common scale.
TEST(SpellingsOfInputs, elements_of_a_container_are_apart) {
  const auto x = uniform({5, 6}), y = uniform({5, 6}) * 3;
  const std::string result = "    return torch.linear(x, self.w) + torch.linear(y, self.w)";
  const auto expected = decisions_of("def forward(self, x, y):\n" + result, {x, y});
  const auto tuple = c10::ivalue::Tuple::create({x, y});
  EXPECT_EQ(decisions_of("def forward(self, t: Tuple[Tensor, Tensor]):\n    x, y = t\n" + result, {tuple}), expected);
  EXPECT_EQ(
      decisions_of("def forward(self, t: Tuple[Tensor, Tensor]):\n    x = t[0]\n    y = t[1]\n" + result, {tuple}),
      expected);
}

}  // namespace
}  // namespace tsquant::testing
