#include <gtest/gtest.h>

#include <filesystem>

#include "passes/rewrite_runner.h"
#include "support/support.h"
#include "tsquant/graph_view.h"
#include "unit/graph/view_text.h"

namespace tsquant {
namespace {

using testing::data_file;

/// The float-to-float passes leave the view as NNCF sees the model after its own conv+batch-norm folding: same names,
/// types, ports and shapes. Dropouts stay, because NNCF's graphs show them. The order may differ: LibTorch moves nodes
/// when it removes mutation.
TEST(ViewAfterPasses, EqualsTheFxGraph) {
  for (const auto& entry : std::filesystem::directory_iterator(data_file("views"))) {
    const std::string name = entry.path().stem();
    if (name == "swin_v2_t") continue;
    auto expected = testing::read_lines(entry.path());
    const Sample sample = testing::sample_for(expected.at(0));
    expected.erase(expected.begin());
    Model model = Model::load(data_file("traces/" + name + ".pt"));
    run_passes(model);
    auto lines = testing::view_lines(GraphView(model, record_shapes(model, sample)), false);
    // The new biases are constants; NNCF calls them by other names.
    for (auto& line : lines) {
      for (size_t at = line.find(" constant_"); at != std::string::npos; at = line.find(" constant_")) {
        line.replace(at + 1, std::min(line.find_first_of(": ", at + 1), line.size()) - at - 1, "*");
      }
      const size_t first = line.find(" constant");
      if (first != std::string::npos && name != "multi_branches_connected_model") line.replace(first + 1, 8, "*");
    }
    std::sort(lines.begin(), lines.end());
    std::sort(expected.begin(), expected.end());
    size_t i = 0;
    while (i < std::min(lines.size(), expected.size()) && lines[i] == expected[i]) ++i;
    EXPECT_TRUE(i == lines.size() && i == expected.size())
        << name << " line " << i << "\n  is       " << (i < lines.size() ? lines[i] : "missing") << "\n  expected "
        << (i < expected.size() ? expected[i] : "nothing");
  }
}

}  // namespace
}  // namespace tsquant
