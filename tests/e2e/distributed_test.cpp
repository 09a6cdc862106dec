#include <gtest/gtest.h>
#include <signal.h>
#include <torch/script.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "e2e/processes.h"
#include "support/files.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

const std::string kProgram = std::string(TSQUANT_BIN_DIR) + "/distributed_calibration";

/// A model and samples on disk.
struct Files {
  std::string folder = temp_dir();

  /// @param damaged index of a sample with a NaN; -1: none
  explicit Files(int64_t samples = 21, int64_t damaged = -1) {
    at::manual_seed(4);
    const auto module = define(R"(
def forward(self, x):
    y = torch.relu(torch.conv2d(x, self.w1, self.b1, [1, 1], [1, 1]))
    z = torch.conv2d(y, self.w2, self.b2, [1, 1], [1, 1])
    return torch.linear(torch.flatten(torch.adaptive_avg_pool2d(torch.sigmoid(z + y), [1, 1]), 1), self.w3, self.b3)
)",
                               {{"w1", at::randn({8, 3, 3, 3})},
                                {"b1", at::randn({8})},
                                {"w2", at::randn({8, 8, 3, 3}) * 0.3},
                                {"b2", at::randn({8})},
                                {"w3", at::randn({10, 8})},
                                {"b3", at::randn({10})}});
    module.save(path("model.pt"));
    auto rows = at::randn({samples, 3, 12, 12}) * at::linspace(0.3, 4, samples).flip(0).reshape({-1, 1, 1, 1});
    if (damaged >= 0) rows[damaged][0][0][0] = NAN;
    const auto data = torch::jit::pickle_save(rows);
    std::ofstream(path("samples.pt"), std::ios::binary).write(data.data(), static_cast<std::streamsize>(data.size()));
  }

  std::string path(const std::string& name) const { return folder + "/" + name; }

  std::vector<std::string> command(int64_t rank, int64_t size, const std::string& out,
                                   const std::vector<std::string>& rest) const {
    std::vector<std::string> result{kProgram,      path("model.pt"),     path("samples.pt"),  path(out),
                                    path("store"), std::to_string(rank), std::to_string(size)};
    result.insert(result.end(), rest.begin(), rest.end());
    return result;
  }
};

/// Runs all ranks; their exit codes.
std::vector<int> run_ranks(const Files& files, int64_t size, const std::vector<std::string>& rest) {
  std::vector<pid_t> children;
  for (int64_t rank = 0; rank < size; ++rank) {
    const auto name = std::to_string(rank);
    children.push_back(start(files.command(rank, size, name + ".pt", rest), files.path(name + ".log")));
  }
  std::vector<int> codes;
  for (const pid_t child : children) codes.push_back(exit_code_of(child));
  return codes;
}

/// Biases are corrected by default, so their statistics travel as well.
void expect_file_of_one(const Files& files, int64_t ranks, const std::string& estimator) {
  ASSERT_EQ(exit_code_of(start(files.command(0, 1, "alone.pt", {estimator}), files.path("alone.log"))), 0)
      << bytes_of(files.path("alone.log"));
  ASSERT_EQ(run_ranks(files, ranks, {estimator, "60"}), std::vector<int>(static_cast<size_t>(ranks), 0))
      << bytes_of(files.path("0.log")) << bytes_of(files.path("1.log"));
  const auto alone = bytes_of(files.path("alone.pt"));
  ASSERT_FALSE(alone.empty());
  for (int64_t rank = 0; rank < ranks; ++rank) {
    EXPECT_TRUE(bytes_of(files.path(std::to_string(rank) + ".pt")) == alone) << estimator << ", rank " << rank;
  }
}

TEST(DistributedCalibration, TwoProcessesMakeTheFileOfOne) {
  const Files files;
  for (const std::string estimator : {"default", "minmax", "histogram"}) expect_file_of_one(files, 2, estimator);
}

TEST(DistributedCalibration, ThreeProcessesWithUnevenShards) {
  expect_file_of_one(Files(20), 3, "default");  // 7, 7 and 6 samples
  expect_file_of_one(Files(4), 3, "histogram");
}

TEST(DistributedCalibration, AFailureOfOneRankIsSaidByAll) {
  const Files files(6, /*damaged=*/3);
  EXPECT_EQ(run_ranks(files, 2, {"default", "60"}), (std::vector<int>{1, 1}));
  for (const std::string log : {"0.log", "1.log"}) {
    EXPECT_NE(bytes_of(files.path(log)).find("calibration sample 3 holds 1 NaN"), std::string::npos)
        << bytes_of(files.path(log));
  }
}

TEST(DistributedCalibration, AKilledRankIsAnErrorAfterTheTimeout) {
  const Files files;
  const pid_t victim = start(files.command(1, 2, "1.pt", {"default", "60"}), files.path("1.log"));
  for (int i = 0; i < 600 && !std::filesystem::exists(files.path("store")); ++i) usleep(100000);
  kill(victim, SIGKILL);
  EXPECT_EQ(exit_code_of(victim), -1);
  EXPECT_EQ(exit_code_of(start(files.command(0, 2, "0.pt", {"default", "2"}), files.path("0.log"))), 1);
  const auto log = bytes_of(files.path("0.log"));
  EXPECT_TRUE(log.find("a rank was lost") != std::string::npos || log.find("did not meet") != std::string::npos) << log;
  EXPECT_FALSE(std::filesystem::exists(files.path("0.pt")));
}

TEST(DistributedCalibration, AnUnknownEstimatorIsNamed) {
  const Files files;
  EXPECT_EQ(exit_code_of(start(files.command(0, 1, "0.pt", {"best"}), files.path("0.log"))), 1);
  EXPECT_NE(bytes_of(files.path("0.log")).find("unknown range estimator best"), std::string::npos);
}

TEST(DistributedCalibration, MoreProcessesThanSamplesIsSaidByAll) {
  const Files files(2);
  EXPECT_EQ(run_ranks(files, 3, {"default", "60"}), (std::vector<int>{1, 1, 1}));
  for (const std::string log : {"0.log", "1.log", "2.log"}) {
    EXPECT_NE(bytes_of(files.path(log)).find("3 processes share 2 samples"), std::string::npos)
        << bytes_of(files.path(log));
  }
}

TEST(DistributedCalibration, AMissingRankIsAnErrorAfterTheTimeout) {
  const Files files;
  EXPECT_EQ(exit_code_of(start(files.command(0, 2, "0.pt", {"default", "1"}), files.path("0.log"))), 1);
  EXPECT_NE(bytes_of(files.path("0.log")).find("rank 0: "), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(files.path("0.pt")));
}

TEST(DistributedCalibration, TheLauncherStartsAllRanks) {
  const Files files;
  const auto script = std::string(TSQUANT_SOURCE_DIR) + "/examples/distributed_calibration/run.sh";
  const pid_t child = start({"/bin/bash", script, kProgram, "3", files.path("model.pt"), files.path("samples.pt"),
                             files.path("out.pt"), "default", "60"},
                            files.path("launcher.log"));
  ASSERT_EQ(exit_code_of(child), 0) << bytes_of(files.path("launcher.log"));
  EXPECT_TRUE(std::filesystem::exists(files.path("out.pt")));
}

}  // namespace
}  // namespace tsquant::testing
