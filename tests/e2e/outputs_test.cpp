// What the program writes, and what it says when it cannot.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "e2e/program.h"
#include "support/support.h"

namespace tsquant {
namespace {

using testing::bytes_of;
using testing::files_in;
using testing::Outcome;
using Words = std::vector<std::string>;

void expect_words(const Outcome& result, int code, const Words& words) {
  EXPECT_EQ(result.code, code) << result.out << result.err;
  for (const auto& word : words) EXPECT_NE(result.err.find(word), std::string::npos) << word << "\n" << result.err;
}

class Outputs : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = testing::temp_dir();
    testing::write_small_model(folder_);
  }
  static std::string path(const std::string& name) { return folder_ + "/" + name; }
  static Words quantize(const std::string& output, const Words& more = {}) {
    Words arguments{"quantize", path("model.pt"), "-o", output, "--data", path("data.pt"), "--inputs", "images"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  static Words inspect(const Words& more) {
    Words arguments{"inspect", path("model.pt"), "--input-shape", "1,3,16,16"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  static std::string folder_;
};
std::string Outputs::folder_;

TEST_F(Outputs, AFileLimitEndsWithAMessageAndWithoutLeftovers) {
  const std::string out = testing::temp_dir(), model = out + "/q.pt";
  std::ofstream(model) << "old";
  ASSERT_EQ(testing::tsquant(quantize(path("reference.pt"), {"--form", "reference"})).code, 0);
  const std::vector<Words> commands{quantize(model),
                                    {"strip", path("reference.pt"), "-o", model},
                                    quantize(path("full.pt"), {"--stats-out", model}),
                                    quantize(path("full.pt"), {"--statistics-path", out}),
                                    inspect({"--json", model}),
                                    inspect({"--svg", model})};
  for (const auto& command : commands) {
    for (const rlim_t bytes : {300, 1500}) {
      const auto result = testing::tsquant_prepared(command, [&] {
        const rlimit limit{bytes, bytes};
        setrlimit(RLIMIT_FSIZE, &limit);
      });
      EXPECT_EQ(result.code, 7) << command[0] << " " << command.back() << "\n" << result.err;
      EXPECT_EQ(bytes_of(model), "old") << command[0];
      EXPECT_EQ(files_in(out), Words{"q.pt"}) << command[0];
    }
  }
}

TEST_F(Outputs, AFullStdoutIsAnError) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full";
  ASSERT_EQ(testing::tsquant(quantize(path("full_stdout.pt"))).code, 0);
  const std::vector<Words> commands{
      quantize(path("full_stdout.pt")),
      quantize(path("full_stdout.pt"), {"--json", "-"}),
      {"report", path("full_stdout.pt")},
      inspect({}),
      inspect({"--dot", "-"}),
      {"annotate", path("model.pt")},
      {"evaluate", path("model.pt"), "--data", path("data.pt"), "--inputs", "images", "--labels", "labels"},
      {"benchmark", path("model.pt"), "--input-shape", "1,3,16,16", "--rounds", "1"},
      {"compare", path("model.pt"), path("full_stdout.pt"), "--data", path("data.pt"), "--inputs", "images"},
      {"--help"}};
  for (const auto& command : commands) {
    const auto result = testing::tsquant_prepared(command, [] { dup2(open("/dev/full", O_WRONLY), STDOUT_FILENO); });
    expect_words(result, 7, {"stdout"});
  }
}

TEST_F(Outputs, TwoWithOneNameAreRefused) {
  const std::string folder = testing::temp_dir(), model = folder + "/q.pt";
  std::filesystem::create_symlink("q.pt", folder + "/link");
  for (const std::string& other : {model, folder + "/./q.pt", folder + "/link"}) {
    expect_words(testing::tsquant(quantize(model, {"--json", other})), 2, {"-o and --json", other});
    expect_words(testing::tsquant(quantize(model, {"--stats-out", other})), 2, {"-o and --stats-out", other});
  }
  expect_words(testing::tsquant(inspect({"--json", "-", "--dot", "-"})), 2, {"--json and --dot"});
  EXPECT_EQ(files_in(folder), Words{"link"});
}

TEST_F(Outputs, AreLookedAtBeforeTheDataIsRead) {
  for (const std::string option : {"-o", "--json", "--stats-out"}) {
    Words arguments{"quantize", path("model.pt"), "--data", path("absent.pt"), option, "absent/q"};
    if (option != "-o") arguments.insert(arguments.end(), {"-o", path("q.pt")});
    expect_words(testing::tsquant(arguments), 7, {"there is no folder \"absent\"", "(at absent/q)"});
  }
  Words control = quantize(path("q.pt"), {"--max-drop", "0.1", "--labels", "labels"});
  control.insert(control.end(), {"--intermediate-dir", path("model.pt")});
  expect_words(testing::tsquant(control), 7, {"no folder", path("model.pt")});
}

TEST_F(Outputs, LongNamesAndPipesAreWritten) {
  const std::string folder = testing::temp_dir(), name(240, 'x');
  ASSERT_EQ(testing::tsquant(quantize(folder + "/" + name)).code, 0);
  EXPECT_EQ(files_in(folder), Words{name});
  ASSERT_EQ(testing::tsquant(inspect({"--dot", "/dev/stdout"})).out.rfind("digraph", 0), 0u);
  expect_words(testing::tsquant(quantize(std::string(5000, 'x'))), 7, {"name too long"});
}

TEST_F(Outputs, EqualRunsGiveEqualStatistics) {
  const std::string folder = testing::temp_dir();
  for (const std::string name : {"a", "b"}) {
    const std::string file = folder + "/" + name;
    ASSERT_EQ(testing::tsquant(quantize(path("q.pt"), {"--stats-out", file + ".pt", "--statistics-path", file})).code,
              0);
  }
  EXPECT_TRUE(bytes_of(folder + "/a.pt") == bytes_of(folder + "/b.pt"));
  ASSERT_EQ(files_in(folder + "/a"), files_in(folder + "/b"));
  for (const auto& name : files_in(folder + "/a")) {
    EXPECT_TRUE(bytes_of(folder + "/a/" + name) == bytes_of(folder + "/b/" + name)) << name;
  }
}

TEST_F(Outputs, UnreadableFilesSayWhy) {
  const std::string folder = testing::temp_dir();
  std::filesystem::copy(path("model.pt"), folder + "/secret.pt");
  chmod((folder + "/secret.pt").c_str(), 0);
  chmod(folder.c_str(), 0755);
  const auto result = testing::tsquant_prepared({"inspect", folder + "/secret.pt"}, [] {
    if (geteuid() == 0 && setuid(65534) != 0) _exit(126);
  });
  expect_words(result, 3, {"Permission denied", folder + "/secret.pt"});
}

TEST(Termination, LeavesTheOldFileAsCtrlCDoes) {
  const std::string folder = testing::temp_dir();
  testing::write_large_model(folder);
  std::ofstream(folder + "/out.pt") << "old content";
  const auto before = files_in(folder);
  const auto result =
      testing::tsquant_interrupted({"quantize", folder + "/large.pt", "-o", folder + "/out.pt", "--data",
                                    folder + "/rows.pt", "--inputs", "images", "--subset-size", "20000"},
                                   0.4, SIGTERM);
  expect_words(result, 7, {"cancelled"});
  EXPECT_EQ(bytes_of(folder + "/out.pt"), "old content");
  EXPECT_EQ(files_in(folder), before);
}

}  // namespace
}  // namespace tsquant
