#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include <map>
#include <set>

#include "flows/accuracy_control/quantizer_groups.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

using Strings = std::vector<std::string>;

/// The groups of a model: operators, and where the quantizers stand ("w" for a weight).
struct Grouping {
  std::vector<std::pair<Strings, std::set<std::string>>> groups;
  size_t points = 0;
};

std::string place(const QuantizationPoint& point) {
  return (point.kind == PointKind::kWeight ? "w " : "") + point.node +
         (point.input_port ? ":" + std::to_string(*point.input_port) : "");
}

/// @param without place of a quantizer that has no parameters
Grouping grouping(const std::string& source, const std::vector<std::pair<std::string, at::Tensor>>& parameters,
                  const Sample& sample, const OpenVINOQuantizerOptions& options = {}, const std::string& without = "") {
  const auto model = Model::from(define(source, parameters));
  const GraphView view(model, record_shapes(model, sample));
  const auto annotations = OpenVINOQuantizer(options).annotate(view);
  QParamTable qparams;
  for (const auto& point : annotations.points) {
    if (place(point) != without) qparams.emplace(point.id, QParams{});
  }
  Grouping result;
  result.points = annotations.points.size();
  for (const auto& group : find_quantizer_groups(view, annotations, qparams)) {
    std::set<std::string> places;
    for (int64_t id : group.points) places.insert(place(*annotations.find(id)));
    result.groups.emplace_back(group.operators, places);
  }
  return result;
}

Sample picture() { return {{at::rand({1, 4, 8, 8})}, {}}; }
at::Tensor kernel() { return at::rand({4, 4, 3, 3}); }

// The graph "simple_graph" of NNCF's tests/common/quantization/test_quantizer_removal.py.
TEST(QuantizerGroups, ABranchBeforeAPoolingJoinsAllThatReadIt) {
  const auto result = grouping(R"(
def forward(self, x):
    x = torch.max_pool2d(torch.relu(torch.conv2d(x, self.w1, None, [1, 1], [1, 1])), [2, 2])
    y = torch.relu(torch.conv2d(x, self.w2, None, [1, 1], [1, 1]))
    return torch.relu(torch.conv2d(y, self.w3, None, [1, 1], [1, 1]) + x)
)",
                               {{"w1", kernel()}, {"w2", kernel()}, {"w3", kernel()}}, picture());
  ASSERT_EQ(result.groups.size(), 3u);
  EXPECT_EQ(result.groups[0].first, (Strings{"/conv2d/1", "/add/0"}));
  EXPECT_EQ(result.groups[0].second, (std::set<std::string>{"/relu/0", "/conv2d/2", "w /conv2d/1:1"}));
  EXPECT_EQ(result.groups[1].first, Strings{"/conv2d/2"});
  EXPECT_EQ(result.groups[1].second, (std::set<std::string>{"/relu/1", "w /conv2d/2:1"}));
  EXPECT_EQ(result.groups[2].first, Strings{"/conv2d/0"});
  EXPECT_EQ(result.groups[2].second, (std::set<std::string>{"x", "w /conv2d/0:1"}));
}

// "simple_graph_quantize_dequantize" there.
TEST(QuantizerGroups, AResidualJoinsTheLayersThatShareItsInput) {
  const auto result = grouping(R"(
def forward(self, x):
    y = torch.conv2d(x, self.w1, None, [1, 1], [1, 1])
    return torch.conv2d(y, self.w2, None, [1, 1], [1, 1]) + y
)",
                               {{"w1", kernel()}, {"w2", kernel()}}, picture());
  ASSERT_EQ(result.groups.size(), 2u);
  EXPECT_EQ(result.groups[0].first, (Strings{"/conv2d/1", "/add/0"}));
  EXPECT_EQ(result.groups[0].second, (std::set<std::string>{"/conv2d/0", "/conv2d/1", "w /conv2d/1:1"}));
  EXPECT_EQ(result.groups[1].first, Strings{"/conv2d/0"});
}

TEST(QuantizerGroups, ConcatJoinsItsInputsAndReaders) {
  const auto result = grouping(R"(
def forward(self, x):
    a = torch.relu(torch.conv2d(x, self.w1, None, [1, 1], [1, 1]))
    b = torch.sigmoid(torch.conv2d(x, self.w2, None, [1, 1], [1, 1]))
    return torch.conv2d(torch.cat([a, b], 1), self.w3, None, [1, 1], [1, 1])
)",
                               {{"w1", kernel()}, {"w2", kernel()}, {"w3", at::rand({4, 8, 3, 3})}}, picture());
  ASSERT_EQ(result.groups.size(), 2u);
  EXPECT_EQ(result.groups[0].first, Strings{"/conv2d/2"});
  EXPECT_EQ(result.groups[0].second, (std::set<std::string>{"/relu/0", "/sigmoid/0", "w /conv2d/2:1"}));
  EXPECT_EQ(result.groups[1].first, (Strings{"/conv2d/0", "/conv2d/1"}));
}

TEST(QuantizerGroups, AddedEmbeddingsGoTogether) {
  const auto result = grouping(R"(
def forward(self, i, x):
    return torch.linear(torch.embedding(self.table, i) + x, self.w)
)",
                               {{"table", at::rand({5, 4})}, {"w", at::rand({3, 4})}},
                               {{at::zeros({2}, at::kLong), at::rand({2, 4})}, {}});
  ASSERT_EQ(result.groups.size(), 2u);
  EXPECT_EQ(result.groups[0].first, Strings{"/linear/0"});
  EXPECT_EQ(result.groups[1].first, Strings{"/add/0"});
  EXPECT_EQ(result.groups[1].second, (std::set<std::string>{"/embedding/0", "x"}));
}

TEST(QuantizerGroups, TogetherTheyHoldEveryQuantizerOnce) {
  OpenVINOQuantizerOptions options;
  options.quantize_outputs = true;
  const std::string source = R"(
def forward(self, x):
    y = torch.gelu(torch.conv2d(x, self.w1, None, [1, 1], [1, 1]))
    z = torch.conv2d(y, self.w2, None, [1, 1], [1, 1])
    return torch.max_pool2d(z * y, [2, 2])
)";
  const std::vector<std::pair<std::string, at::Tensor>> parameters{{"w1", kernel()}, {"w2", kernel()}};
  const auto all = grouping(source, parameters, picture(), options);
  size_t count = 0;
  for (const auto& group : all.groups) count += group.second.size();
  EXPECT_EQ(count, all.points);
  EXPECT_TRUE(all.groups.front().first.empty()) << "the quantizer of the output serves no operator";
  // A point without parameters was never inserted.
  const auto rest = grouping(source, parameters, picture(), options, "w /conv2d/0:1");
  for (const auto& group : rest.groups) EXPECT_EQ(group.second.count("w /conv2d/0:1"), 0u);
  EXPECT_EQ(rest.groups.size(), all.groups.size());
}

}  // namespace
}  // namespace tsquant::testing
