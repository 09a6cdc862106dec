#include <gtest/gtest.h>

#include <filesystem>

#include "support/support.h"
#include "tsquant/graph_view.h"
#include "unit/graph/view_text.h"

namespace tsquant {
namespace {

using testing::data_file;

/// NNCF's FX graph of every trace: node order, FX aliases, types, metatypes, shapes, and edges with their ports.
class ViewGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(ViewGolden, EqualsTheFxGraph) {
  const std::string name = GetParam();
  const auto expected = testing::read_lines(data_file("views/" + name + ".txt"));
  const Model model = Model::load(data_file("traces/" + name + ".pt"));
  const GraphView view(model, record_shapes(model, testing::sample_for(expected.at(0))));
  const auto lines = testing::view_lines(view, true);
  for (size_t i = 0; i < std::min(lines.size(), expected.size() - 1); ++i) {
    ASSERT_EQ(lines[i], expected[i + 1]) << "line " << i + 2;
  }
  EXPECT_EQ(lines.size(), expected.size() - 1);
}

std::vector<std::string> models() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(data_file("views"))) {
    // swin_v2_t's mask arithmetic is spelled differently once the trace is loaded from a file.
    const std::string name = entry.path().stem();
    if (name != "swin_v2_t") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(AllTraces, ViewGolden, ::testing::ValuesIn(models()),
                         [](const auto& info) { return info.param; });

TEST(ViewGolden, SwinHasTheSameOperatorsUpToItsMaskArithmetic) {
  const auto expected = testing::read_lines(data_file("views/swin_v2_t.txt"));
  const Model model = Model::load(data_file("traces/swin_v2_t.pt"));
  const GraphView view(model, record_shapes(model, testing::sample_for(expected.at(0))));
  const auto count = [](const std::vector<std::string>& lines, const std::string& type) {
    return std::count_if(lines.begin(), lines.end(),
                         [&](const std::string& line) { return line.find(" " + type + " ") != std::string::npos; });
  };
  const auto lines = testing::view_lines(view, true);
  for (const char* type : {"linear", "matmul", "softmax", "layer_norm", "roll", "conv2d", "gelu", "div", "norm"}) {
    EXPECT_EQ(count(lines, type), count(expected, type)) << type;
  }
}

}  // namespace
}  // namespace tsquant
