// `tsquant quantize --more-data`: one file of samples for each path through a model.
#include <gtest/gtest.h>

#include "e2e/program.h"
#include "support/support.h"

namespace tsquant {
namespace {

using nlohmann::json;
using testing::Outcome;
using Strings = std::vector<std::string>;

/// A detector with a layer per sampling rate, which keeps a running mean between chunks.
class MoreData : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = testing::temp_dir();
    at::manual_seed(8);
    testing::define(R"(
def forward(self, x, rate: int):
    if rate == 16000:
        y = torch.linear(torch.tanh(x), self.wide)
    else:
        y = torch.linear(torch.tanh(x), self.narrow)
    h = 0.9 * self.h + 0.1 * torch.relu(y)
    self.h = h
    return torch.linear(h, self.out)
)",
                    {{"wide", at::randn({24, 32})},
                     {"narrow", at::randn({24, 16})},
                     {"out", at::randn({2, 24})},
                     {"h", at::zeros({1, 24})}})
        .save(path("model.pt"));
    for (const auto& [name, width] : {std::pair("wide.pt", 32), std::pair("narrow.pt", 16)}) {
      torch::jit::Module data("Data");
      data.register_buffer("chunks", at::randn({10, width}));
      data.save(path(name));
    }
  }
  static std::string path(const std::string& name) { return folder_ + "/" + name; }
  static Outcome quantize(const Strings& more) {
    Strings arguments{"quantize",      path("model.pt"), "-o",     path("out.pt"), "--form", "reference", "--data",
                      path("wide.pt"), "--inputs",       "chunks", "--scalar",     "16000",  "--json",    "-"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return testing::tsquant(arguments);
  }
  static std::string folder_;
};
std::string MoreData::folder_;

/// Whether the operator reads quantized data.
std::string code(const Outcome& result, const std::string& name) {
  const json report = result.json();
  for (const auto& node : report.at("nodes")) {
    if (node.at("name") == name) return node.at("code");
  }
  return "absent";
}

TEST_F(MoreData, EachFileCalibratesItsBranch) {
  const auto one = quantize({});
  ASSERT_EQ(one.code, 0) << one.err;
  EXPECT_EQ(one.json().at("samples"), 10);
  EXPECT_EQ(code(one, "/linear/0"), "quantized");
  EXPECT_EQ(code(one, "/linear/1"), "not_reached");
  const auto both = quantize({"--more-data", path("narrow.pt") + ":8000"});
  ASSERT_EQ(both.code, 0) << both.err;
  EXPECT_EQ(both.json().at("samples"), 20);
  EXPECT_EQ(code(both, "/linear/0"), "quantized");
  EXPECT_EQ(code(both, "/linear/1"), "quantized");
  const auto evaluated =
      testing::tsquant({"evaluate", path("out.pt"), "--data", path("narrow.pt"), "--inputs", "chunks", "--scalar",
                        "8000", "--metric", "agreement", "--reference", path("model.pt"), "--json", "-"});
  EXPECT_EQ(evaluated.code, 0) << evaluated.err;
}

/// A small subset still has samples of every file, in equal parts.
TEST_F(MoreData, TheSubsetIsSharedOut) {
  const auto four = quantize({"--more-data", path("narrow.pt") + ":8000", "--subset-size", "4"});
  ASSERT_EQ(four.code, 0) << four.err;
  EXPECT_EQ(four.json().at("samples"), 4);
  EXPECT_EQ(code(four, "/linear/0"), "quantized");
  EXPECT_EQ(code(four, "/linear/1"), "quantized");
  // --limit holds for every file.
  const auto most = quantize({"--limit", "3", "--more-data", path("narrow.pt") + ":8000", "--subset-size", "6"});
  EXPECT_EQ(most.json().at("samples"), 6);
}

TEST_F(MoreData, MistakesAreNamed) {
  const auto missing = quantize({"--more-data", path("absent.pt") + ":8000"});
  EXPECT_EQ(missing.code, 5);
  EXPECT_NE(missing.err.find("absent.pt"), std::string::npos) << missing.err;
  const auto word = quantize({"--more-data", path("narrow.pt") + ":slow"});
  EXPECT_EQ(word.code, 2);
  EXPECT_NE(word.err.find("\"slow\" is no number"), std::string::npos) << word.err;
  // Without values of its own the file gets those of --scalar, which choose the layer for wide chunks.
  const auto wrong = quantize({"--more-data", path("narrow.pt")});
  EXPECT_EQ(wrong.code, 5) << wrong.err;
}

}  // namespace
}  // namespace tsquant
