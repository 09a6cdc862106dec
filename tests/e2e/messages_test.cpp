// Messages about the command line speak its language, and say what is allowed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "e2e/program.h"
#include "support/support.h"

namespace tsquant {
namespace {

using Words = std::vector<std::string>;

class Messages : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = testing::temp_dir();
    testing::write_small_model(folder_);
  }
  static std::string path(const std::string& name) { return folder_ + "/" + name; }

  /// `tsquant quantize` with these options must end with a code and a message with all of `words`.
  static void expect(const Words& options, int code, const Words& words, const Words& data = {"data.pt", "images"}) {
    Words arguments{"quantize", path("model.pt"), "-o", path("q.pt"), "--data", path(data[0]), "--inputs", data[1]};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const auto result = testing::tsquant(arguments);
    EXPECT_EQ(result.code, code) << options.front() << "\n" << result.out << result.err;
    for (const auto& word : words) EXPECT_NE(result.err.find(word), std::string::npos) << word << "\n" << result.err;
    for (const std::string name : {"subset_size", "statistics_in", "ignored scope", "max_num", "overflow_fix"}) {
      EXPECT_EQ(result.err.find(name), std::string::npos) << "a name of the library: " << result.err;
    }
  }
  static std::string folder_;
};
std::string Messages::folder_;

TEST_F(Messages, ValuesThatAreNoValuesSayWhatIsAllowed) {
  expect({"--subset-size", "abc"}, 2, {"--subset-size", "\"abc\" is not a whole number"});
  expect({"--limit", "1.5"}, 2, {"--limit", "\"1.5\" is not a whole number"});
  expect({"--weights-bits", "abc"}, 2, {"--weights-bits", "not a whole number"});
  expect({"--weights-bits", "9"}, 2, {"--weights-bits", "2 to 8"});
  expect({"--max-drop", "abc"}, 2, {"--max-drop", "not a number"});
  expect({"--bias-threshold", "x"}, 2, {"--bias-threshold", "not a number"});
  expect({"--weights-signed", "maybe"}, 2, {"--weights-signed", "\"maybe\"", "true or false"});
  expect({"--scalar", "maybe"}, 2, {"--scalar", "\"maybe\"", "true or false"});
}

TEST_F(Messages, AnInstructionSetThatThereIsNotIsRefusedBeforeAnythingIsLowered) {
  const auto result = testing::tsquant_prepared({"quantize", path("model.pt"), "-o", path("isa.pt"), "--form",
                                                 "lowered", "--data", path("data.pt"), "--inputs", "images"},
                                                [] { setenv("TSQUANT_MAX_ISA", "avx9", 1); });
  EXPECT_EQ(result.code, 2) << result.out << result.err;
  for (const std::string word : {"TSQUANT_MAX_ISA", "\"avx9\"", "avx512vnni"}) {
    EXPECT_NE(result.err.find(word), std::string::npos) << word << "\n" << result.err;
  }
  EXPECT_FALSE(std::filesystem::exists(path("isa.pt")));
}

TEST_F(Messages, ALimitThatAllowsAnyResultIsRefused) {
  for (const std::string drop : {"1.5", "5"}) {
    expect({"--max-drop", drop, "--labels", "labels"}, 2, {"--max-drop", drop, "between 0 and 1"});
  }
}

TEST_F(Messages, ThreadsAreLimited) {
  for (const std::string threads : {"100000", "0", "-1"}) {
    expect({"--threads", threads}, 2, {"--threads", threads, "use 1 to "});
  }
  expect({"--threads", "two"}, 2, {"--threads", "not a whole number"});
  expect({"--threads", "1"}, 0, {});
}

TEST_F(Messages, OptionsHaveTheNamesOfTheCommandLine) {
  expect({"--subset-size", "0"}, 2, {"--subset-size: 0 is not allowed: use 1 or more"});
  expect({"--engine", "tsquant"}, 2, {"error: --engine is set, but the decomposed form", "(at --engine)"});
  expect({"--stats-in", "a", "--statistics-path", "b"}, 2, {"(at --stats-in)", "give --stats-in or --statistics-path"});
  expect({"--max-drop", "0.1", "--labels", "labels", "--max-iterations", "-1"}, 2, {"--max-iterations"});
  expect({"--ignore-name", "nothing"}, 2, {"--ignore-name matches no node (at nothing)"});
  expect({"--smooth-quant", "--smooth-quant-alpha-matmul", "7"}, 2,
         {"--smooth-quant-alpha-matmul: 7 is not allowed: use 1 or less"});
}

TEST_F(Messages, ASubgraphInReverseIsSaidToBe) {
  expect({"--ignore-subgraph", "/linear/0:stem/conv2d/0"}, 2, {"in reverse", "/linear/0", "stem/conv2d/0"});
}

TEST_F(Messages, DataAndLabelsOfAnotherKindAreRecognised) {
  expect({}, 5, {"this is a model, not data", path("model.pt")}, {"model.pt", "images"});
  const auto result = testing::tsquant(
      {"evaluate", path("model.pt"), "--data", path("data.pt"), "--inputs", "images", "--labels", "images"});
  EXPECT_EQ(result.code, 5) << result.err;
  EXPECT_NE(result.err.find("[24, 3, 16, 16]: these look like images"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace tsquant
