// Several processes that meet over c10d compress as one does.
#include <gtest/gtest.h>
#include <torch/script.h>

#include <filesystem>
#include <fstream>

#include "e2e/compress_model.h"
#include "e2e/processes.h"
#include "support/files.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

const std::string kCompressionProgram = std::string(TSQUANT_BIN_DIR) + "/distributed_compression";

class DistributedCompression : public ::testing::Test {
 protected:
  void SetUp() override {
    write_small_lm(folder_);
    at::manual_seed(7);
    const auto data = torch::jit::pickle_save(at::randint(0, 48, {7, 16}, at::kLong));
    std::ofstream(path("samples.pt"), std::ios::binary).write(data.data(), static_cast<std::streamsize>(data.size()));
  }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }

  void write(const std::string& name, const std::string& text) const { std::ofstream(path(name)) << text; }

  std::vector<std::string> command(int64_t rank, int64_t size, const std::string& name, bool data,
                                   const std::string& options) const {
    return {kCompressionProgram,  path("lm.pt"), data ? path("samples.pt") : "none",
            path(name + ".pt"),   path("store"), std::to_string(rank),
            std::to_string(size), path(options), "60"};
  }

  /// @param options file of each rank
  std::vector<int> run_ranks(const std::vector<std::string>& options, bool data) const {
    std::filesystem::remove(path("store"));
    const auto size = static_cast<int64_t>(options.size());
    std::vector<pid_t> children;
    for (int64_t rank = 0; rank < size; ++rank) {
      const auto name = std::to_string(rank);
      const auto words = command(rank, size, name, data, options[static_cast<size_t>(rank)]);
      children.push_back(start(words, path(name + ".log")));
    }
    std::vector<int> codes;
    for (const pid_t child : children) codes.push_back(exit_code_of(child));
    return codes;
  }

  void expect_file_of_one(const std::string& options, bool data) const {
    write("options.json", options);
    ASSERT_EQ(exit_code_of(start(command(0, 1, "alone", data, "options.json"), path("alone.log"))), 0)
        << bytes_of(path("alone.log"));
    const std::string alone = bytes_of(path("alone.pt"));
    ASSERT_FALSE(alone.empty());
    for (const size_t size : {2, 3}) {
      ASSERT_EQ(run_ranks(std::vector<std::string>(size, "options.json"), data), std::vector<int>(size, 0))
          << bytes_of(path("0.log")) << bytes_of(path("1.log"));
      for (size_t rank = 0; rank < size; ++rank) {
        EXPECT_TRUE(bytes_of(path(std::to_string(rank) + ".pt")) == alone) << options << ", rank " << rank;
      }
    }
  }

  std::string folder_ = temp_dir();
};

TEST_F(DistributedCompression, ProcessesMakeTheFileOfOneWithoutData) {
  expect_file_of_one(R"({"mode": "int4_sym", "group_size": 16})", false);
  expect_file_of_one(R"({"mode": "int4_asym", "group_size": 16, "ratio": 0.5})", false);
}

TEST_F(DistributedCompression, ProcessesMakeTheFileOfOneWithData) {
  expect_file_of_one(R"({"mode": "int4_sym", "group_size": 16, "ratio": 0.7, "awq": true, "scale_estimation": true})",
                     true);
  expect_file_of_one(R"({"mode": "int4_asym", "group_size": 16, "gptq": true})", true);
}

TEST_F(DistributedCompression, OptionsThatDifferAreSaidByAll) {
  write("first.json", R"({"mode": "int4_sym", "group_size": 16})");
  write("second.json", R"({"mode": "int4_sym", "group_size": 8})");
  EXPECT_EQ(run_ranks({"first.json", "second.json"}, false), (std::vector<int>{1, 1}));
  for (const std::string name : {"0", "1"}) {
    const std::string log = bytes_of(path(name + ".log"));
    EXPECT_NE(log.find("rank 1 and rank 0 differ"), std::string::npos) << log;
    EXPECT_NE(log.find("group_size 8"), std::string::npos) << log;
    EXPECT_FALSE(std::filesystem::exists(path(name + ".pt")));
  }
}

TEST_F(DistributedCompression, AFailureOfOneRankIsSaidByAll) {
  write("right.json", R"({"mode": "int4_sym", "group_size": 16})");
  write("wrong.json", R"({"mode": "int8_asym", "group_size": 16})");
  EXPECT_EQ(run_ranks({"right.json", "wrong.json"}, false), (std::vector<int>{1, 1}));
  for (const std::string name : {"0", "1"}) {
    const std::string log = bytes_of(path(name + ".log"));
    EXPECT_NE(log.find("int8_asym compresses all weights"), std::string::npos) << log;
  }
}

TEST_F(DistributedCompression, AMissingRankIsAnErrorAfterTheTimeout) {
  write("options.json", R"({"mode": "int4_sym", "group_size": 16})");
  auto words = command(0, 2, "0", false, "options.json");
  words.back() = "1";
  EXPECT_EQ(exit_code_of(start(words, path("0.log"))), 1);
  EXPECT_NE(bytes_of(path("0.log")).find("rank 0: "), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(path("0.pt")));
}

/// `tsquant compress` itself as one of several processes.
class RanksOfTheProgram : public DistributedCompression {
 protected:
  std::vector<std::string> program(const std::vector<std::string>& more) const {
    std::vector<std::string> words{std::string(TSQUANT_BIN_DIR) + "/tsquant",
                                   "compress",
                                   path("lm.pt"),
                                   "--json",
                                   path("report.json"),
                                   "--mode",
                                   "int4_asym",
                                   "--group-size",
                                   "16"};
    for (const auto& word : with_tokens(folder_, more)) words.push_back(word);
    return words;
  }

  std::vector<std::string> rank(int64_t rank, std::vector<std::string> more) const {
    for (const std::string& word :
         {std::string("--store"), path("store"), std::string("--ranks"), std::string("2"), std::string("--rank"),
          std::to_string(rank), std::string("--rank-timeout"), std::string("60")}) {
      more.push_back(word);
    }
    return program(more);
  }

  int run(const std::vector<std::string>& words) const { return exit_code_of(start(words, path("log"))); }
};

TEST_F(RanksOfTheProgram, WriteTheFileOfOneProcess) {
  for (const std::vector<std::string>& method : std::vector<std::vector<std::string>>{{"--gptq"}, {"--awq"}}) {
    auto alone = method;
    alone.insert(alone.end(), {"-o", path("alone.pt")});
    ASSERT_EQ(run(program(alone)), 0) << bytes_of(path("log"));
    std::filesystem::remove(path("store"));
    auto first = method, second = method;
    first.insert(first.end(), {"-o", path("first.pt")});
    second.insert(second.end(), {"-o", path("second.pt")});
    const pid_t one = start(rank(0, first), path("0.log")), other = start(rank(1, second), path("1.log"));
    ASSERT_EQ(exit_code_of(one), 0) << bytes_of(path("0.log"));
    ASSERT_EQ(exit_code_of(other), 0) << bytes_of(path("1.log"));
    EXPECT_TRUE(bytes_of(path("first.pt")) == bytes_of(path("alone.pt"))) << method.front();
    EXPECT_TRUE(bytes_of(path("second.pt")) == bytes_of(path("alone.pt"))) << method.front();
  }
}

TEST_F(RanksOfTheProgram, OnlyTheFirstMustHaveAnOutput) {
  const pid_t one = start(rank(0, {"--gptq", "-o", path("first.pt")}), path("0.log"));
  const pid_t other = start(rank(1, {"--gptq"}), path("1.log"));
  EXPECT_EQ(exit_code_of(one), 0) << bytes_of(path("0.log"));
  EXPECT_EQ(exit_code_of(other), 0) << bytes_of(path("1.log"));
  EXPECT_TRUE(std::filesystem::exists(path("first.pt")));
  EXPECT_NE(run(rank(0, {"--gptq"})), 0);
  EXPECT_NE(bytes_of(path("log")).find("no output is named"), std::string::npos);
}

TEST_F(RanksOfTheProgram, AreNumberedFromZero) {
  EXPECT_NE(run(rank(2, {"-o", path("out.pt")})), 0);
  EXPECT_NE(bytes_of(path("log")).find("number the processes from 0 to 1"), std::string::npos) << bytes_of(path("log"));
  EXPECT_NE(run(program({"-o", path("out.pt"), "--rank", "0"})), 0);
  EXPECT_NE(bytes_of(path("log")).find("--rank requires"), std::string::npos) << bytes_of(path("log"));
}

}  // namespace
}  // namespace tsquant::testing
