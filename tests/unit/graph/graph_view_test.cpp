#include "tsquant/graph_view.h"

#include <gtest/gtest.h>

#include <chrono>

#include "graph/op_table.h"
#include "support/build_under_test.h"
#include "support/support.h"

namespace tsquant {
namespace {

using testing::define;

/// "name < producer:port ..." of every node.
std::vector<std::string> lines_of(const GraphView& view) {
  std::vector<std::string> lines;
  for (const ViewNode& node : view.nodes()) {
    std::string line = node.name + " <";
    for (size_t port = 0; port < node.in_edges.size(); ++port) {
      const ViewEdge* edge = view.input_edge(node, static_cast<int64_t>(port));
      EXPECT_EQ(edge->input_port, static_cast<int64_t>(port));
      EXPECT_EQ(edge->to, node.id);
      line += " " + view.node(edge->from).name + ":" + std::to_string(edge->output_port);
    }
    lines.push_back(line);
  }
  return lines;
}

/// Edges with a use point at the value that flows.
void expect_uses_are_exact(const GraphView& view) {
  for (const ViewEdge& edge : view.edges()) {
    EXPECT_LT(edge.from, edge.to);
    if (edge.use.user) {
      EXPECT_EQ(edge.use.user->input(edge.use.offset), edge.value);
    }
  }
}

std::vector<std::string> lines_of(const torch::jit::Module& module) {
  const Model model = Model::from(module);
  const GraphView view(model);
  expect_uses_are_exact(view);
  return lines_of(view);
}

using Lines = std::vector<std::string>;

TEST(GraphView, ListsAreExpandedAndOptionalsSkipped) {
  const auto module = define(
      "def forward(self, x, y):\n  z = torch.cat([x, torch.relu(y), x], 1)\n"
      "  return torch.layer_norm(z, [6], None, self.bias)\n",
      {{"bias", at::zeros({6})}});
  EXPECT_EQ(lines_of(module), (Lines{"x <", "y <", "/relu/0 < y:0", "/cat/0 < x:0 /relu/0:0 x:0", "bias <",
                                     "/layer_norm/0 < /cat/0:0 bias:0", "output < /layer_norm/0:0"}));
}

TEST(GraphView, ContainersOfInputsAndOutputs) {
  const auto lines =
      lines_of(define("def forward(self, xs: Tuple[Tensor, Tensor], d: Dict[str, Tensor]):\n  a, b = xs\n  c = d['k']\n"
                      "  return a + c, [b, a]\n"));
  EXPECT_EQ(lines, (Lines{"xs <", "d <", "/unpack/0/getitem/0 < xs:0", "/unpack/0/getitem/1 < xs:1",
                          "/__getitem__/0 < d:0", "/add/0 < /unpack/0/getitem/0:0 /__getitem__/0:0",
                          "output < /add/0:0 /unpack/0/getitem/1:0 /unpack/0/getitem/0:0"}));
}

TEST(GraphView, OperatorsWithSeveralResults) {
  const auto module = define(
      "def forward(self, x):\n  v, i = torch.topk(x, 2)\n  a, b, c = torch.chunk(x, 3)\n  m, _ = torch.max(x, 0)\n"
      "  return v + a, i, c + m\n");
  EXPECT_EQ(
      lines_of(module),
      (Lines{"x <", "/topk/0 < x:0", "/topk/0/getitem/0 < /topk/0:0", "/topk/0/getitem/1 < /topk/0:1", "/chunk/0 < x:0",
             "/chunk/0/getitem/0 < /chunk/0:0", "/chunk/0/getitem/2 < /chunk/0:2", "/max/0 < x:0",
             "/max/0/getitem/0 < /max/0:0", "/add/0 < /topk/0/getitem/0:0 /chunk/0/getitem/0:0",
             "/add/1 < /chunk/0/getitem/2:0 /max/0/getitem/0:0", "output < /add/0:0 /topk/0/getitem/1:0 /add/1:0"}));
}

TEST(GraphView, SizeArithmeticIsFolded) {
  const auto module = define("def forward(self, x):\n  n = x.size(0)\n  y = x.view([n * 2, -1])\n  return y + n\n");
  EXPECT_EQ(lines_of(module), (Lines{"x <", "/view/0 < x:0", "/add/0 < /view/0:0", "output < /add/0:0"}));
}

TEST(GraphView, BranchesAndLoops) {
  const auto module = define(
      "def forward(self, x, n: int):\n  if bool(x.sum() > 0):\n    y = torch.relu(x)\n  else:\n    y = x\n"
      "  for i in range(n):\n    y = torch.tanh(y) + x\n  return y\n");
  EXPECT_EQ(lines_of(module),
            (Lines{"x <", "/sum/0 < x:0", "/gt/0 < /sum/0:0", "/relu/0 < x:0", "/if/0 < /relu/0:0 x:0",
                   "/loop/0/carried/0 < /if/0:0", "/tanh/0 < /loop/0/carried/0:0", "/add/0 < /tanh/0:0 x:0",
                   "/loop/0 < /add/0:0", "output < /loop/0:0"}));
}

TEST(GraphView, BranchesWithSeveralResults) {
  const auto module = define(
      "def forward(self, x, flag: bool):\n  if flag:\n    a, b = torch.relu(x), x\n  else:\n"
      "    a, b = x, torch.tanh(x)\n  return a + b\n");
  EXPECT_EQ(lines_of(module), (Lines{"x <", "/relu/0 < x:0", "/tanh/0 < x:0", "/if/0 < /relu/0:0 x:0",
                                     "/if/0/1 < x:0 /tanh/0:0", "/add/0 < /if/0:0 /if/0/1:0", "output < /add/0:0"}));
}

TEST(GraphView, AppendedListsAreOperators) {
  const auto module =
      define("def forward(self, x):\n  parts = [x]\n  parts.append(torch.relu(x))\n  return torch.cat(parts)\n");
  EXPECT_EQ(lines_of(module),
            (Lines{"x <", "/ListConstruct/0 < x:0", "/relu/0 < x:0", "/append/0 < /ListConstruct/0:0 /relu/0:0",
                   "/cat/0 < /ListConstruct/0:0", "output < /cat/0:0"}));
}

TEST(GraphView, WrittenBuffersAreNotParameters) {
  const auto module =
      define("def forward(self, x):\n  self.h = torch.tanh(x + self.h)\n  return self.h\n", {{"h", at::zeros({2})}});
  const Model model = Model::from(module);
  const GraphView view(model);
  ASSERT_NE(view.find("h"), nullptr);
  EXPECT_EQ(view.find("h")->kind, NodeKind::kOperator);
  EXPECT_EQ(view.find("h")->op->metatype, "UnknownMetatype");
}

TEST(GraphView, FrozenWeightsAreParameters) {
  auto module = define("def forward(self, x):\n  return torch.conv2d(x, self.w)\n", {{"w", at::ones({4, 1, 3, 3})}});
  const Model model = Model::from(torch::jit::freeze(module));
  const GraphView view(model);
  const ViewNode* weight = view.find("constant");
  ASSERT_NE(weight, nullptr);
  EXPECT_EQ(weight->kind, NodeKind::kParameter);
  EXPECT_EQ(weight->info.shape, (std::vector<int64_t>{4, 1, 3, 3}));
  EXPECT_EQ(lines_of(view), (Lines{"x <", "constant <", "/conv2d/0 < x:0 constant:0", "output < /conv2d/0:0"}));
}

TEST(GraphView, MetatypesThatDependOnArguments) {
  const auto module = define(
      "def forward(self, x, ids):\n  x = torch.conv2d(x, self.w, None, 1, 0, 1, 4)\n"
      "  x = torch.conv2d(x, self.v, None, 1, 0, 1, 2)\n  return x, torch.embedding(self.table, ids)\n",
      {{"w", at::ones({4, 1, 1, 1})}, {"v", at::ones({4, 2, 1, 1})}, {"table", at::ones({5, 2})}});
  const Model model = Model::from(module);
  const GraphView view(model);
  EXPECT_EQ(view.find("conv2d")->op->metatype, "PTDepthwiseConv2dSubtype");
  EXPECT_EQ(view.find("conv2d_1")->op->metatype, "PTConv2dMetatype");
  EXPECT_EQ(view.find("embedding")->op->metatype, "PTAtenEmbeddingMetatype");
}

TEST(GraphView, ShapesOfEveryBlock) {
  const auto module = define(
      "def forward(self, x, flag: bool):\n  if flag:\n    y = torch.relu(x.t())\n  else:\n    y = torch.tanh(x)\n"
      "  return torch.topk(y, 1)[0].to(7)\n");
  const Model model = Model::from(module);
  const ShapeTable shapes = record_shapes(model, Sample{{at::rand({2, 3}), true}, {}});
  const GraphView view(model, shapes);
  EXPECT_EQ(view.find("relu")->info.shape, (std::vector<int64_t>{3, 2}));
  EXPECT_FALSE(view.find("tanh")->info.known);
  EXPECT_EQ(view.find("if_1")->info.shape, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(view.find("getitem")->info.shape, (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(view.find("to")->info.dtype, at::kDouble);
  EXPECT_EQ(view.input_edge(*view.find("getitem"), 0)->info.shape, (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(view.input_edge(*view.find("getitem"), 0)->use.user, nullptr);
  EXPECT_EQ(view.input_edge(*view.find("getitem"), 1), nullptr);
  EXPECT_EQ(view.producer(view.find("to")->value), view.find("to"));
}

TEST(GraphView, ShapesWithEarlyReturns) {
  const auto module = define(
      "def forward(self, x, flag: bool):\n  y = torch.relu(x)\n  if flag:\n    return torch.tanh(y)\n"
      "  for i in range(3):\n    y = torch.sigmoid(y)\n    if i > 1:\n      return y\n  return torch.abs(y)\n");
  const Model model = Model::from(module);
  for (const bool flag : {true, false}) {
    const GraphView view(model, record_shapes(model, Sample{{at::rand({2, 3}), flag}, {}}));
    EXPECT_EQ(view.find("tanh")->info.known, flag);
    EXPECT_EQ(view.find("sigmoid")->info.known, !flag);
  }
}

TEST(GraphView, NearestNames) {
  const Model model = Model::from(define("def forward(self, x):\n  return torch.relu(torch.tanh(torch.sigmoid(x)))\n"));
  const GraphView view(model);
  EXPECT_EQ(view.find("relo"), nullptr);
  EXPECT_EQ(view.nearest_names("relo", 1), std::vector<std::string>{"relu"});
  EXPECT_EQ(view.nearest_names("/sigmoid/1", 1), std::vector<std::string>{"/sigmoid/0"});
  EXPECT_EQ(view.nearest_names("x", 100).size(), 6u);
}

TEST(GraphView, UnnamedAndRepeatedNodesStayDistinct) {
  const Model model = Model::from(define("def forward(self, x):\n  return torch.relu(x)\n"));
  auto graph = model.graph();
  auto* relu = graph->outputs()[0]->node();
  torch::jit::WithInsertPoint guard(graph->return_node());
  auto* copy = graph->insertNode(graph->createClone(relu, [](torch::jit::Value* v) { return v; }));
  copy->replaceInput(0, relu->output());
  auto* fresh = graph->insertNode(graph->create(c10::aten::tanh, {copy->output()}));
  graph->block()->replaceOutput(0, fresh->output());
  const GraphView view(model);
  EXPECT_EQ(lines_of(view), (Lines{"x <", "/relu/0 < x:0", "/relu/0#1 < /relu/0:0", "unnamed/tanh/0 < /relu/0#1:0",
                                   "output < unnamed/tanh/0:0"}));
}

TEST(GraphView, IsLinear) {
  const Model model = Model::from(define("def forward(self, x):\n  return x + self.w\n", {{"w", at::zeros({1})}}));
  auto graph = model.graph();
  torch::jit::WithInsertPoint guard(graph->return_node());
  auto* value = graph->outputs()[0];
  auto* first = value->node();
  for (int i = 0; i < 100000; ++i) {
    auto* node = graph->insertNode(graph->createClone(first, [](torch::jit::Value* v) { return v; }));
    node->replaceInput(0, value);
    value = node->output();
  }
  graph->block()->replaceOutput(0, value);
  Model copy = model;
  const auto start = std::chrono::steady_clock::now();
  const GraphView view(copy);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  EXPECT_EQ(view.nodes().size(), 100004u);
  EXPECT_LT(seconds, 20 * testing::slower());  // about 0.2 s; quadratic code takes minutes
}

}  // namespace
}  // namespace tsquant
