// `tsquant compress` that is interrupted goes on from where it was, and writes what it would have written at once.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>

#include "e2e/compress_model.h"
#include "e2e/program.h"
#include "support/support.h"

namespace {

/// The process gets `stop_signal` when this many more files have got their names, or are about to: the program runs in
/// a copy of this process, in which the library calls the `rename` below.
int renames_left = -1, stop_signal = 0;
bool stop_before = false;

void stop_here() { raise(stop_signal); }

}  // namespace

extern "C" int rename(const char* from, const char* to) {
  using Rename = int (*)(const char*, const char*);
  static const auto system_rename = reinterpret_cast<Rename>(dlsym(RTLD_NEXT, "rename"));
  const bool last = renames_left > 0 && --renames_left == 0;
  if (last && stop_before) stop_here();
  const int result = system_rename(from, to);
  if (last && !stop_before) stop_here();
  return result;
}

namespace tsquant {
namespace {

namespace fs = std::filesystem;
using testing::bytes_of;
using testing::files_in;
using testing::Outcome;
using Strings = std::vector<std::string>;

class Resume : public testing::CompressesSmallLm {
 protected:
  void SetUp() override {
    CompressesSmallLm::SetUp();
    kept_ = output_ + ".resume";
  }

  Outcome compress(const Strings& options) const { return compress_with_data(options); }

  /// Ends when the n-th file of this run gets its name.
  Outcome interrupted(const Strings& options, int n, int signal, bool before = false) const {
    renames_left = n;
    stop_signal = signal;
    stop_before = before;
    auto result = compress(options);
    renames_left = -1;
    return result;
  }

  /// What one run writes that is not interrupted.
  std::string expected(const Strings& options) const {
    const std::string path = testing::temp_dir() + "/out.pt";
    Strings words = testing::compress_command(folder_, path, testing::with_tokens(folder_, options));
    words.emplace_back("--no-resume");
    const auto result = testing::tsquant(words);
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(files_in(fs::path(path).parent_path()), Strings{"out.pt"});
    return bytes_of(path);
  }

  std::string kept_;
};

Strings int4(const Strings& more) {
  Strings options{"--mode", "int4_sym", "--group-size", "16"};
  options.insert(options.end(), more.begin(), more.end());
  return options;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

const std::vector<Strings>& algorithms() {
  static const std::vector<Strings> all{int4({"--gptq"}),
                                        int4({"--quality", "best"}),
                                        int4({"--awq", "--scale-estimation", "--lora-correction"}),
                                        {"--mode", "adaptive_codebook", "--group-size", "16"}};
  return all;
}

TEST_F(Resume, InterruptedAtAnyLayerItWritesTheSameBytes) {
  for (const auto& options : algorithms()) {
    const std::string whole = expected(options);
    std::ofstream(output_) << "old";
    int interruptions = 0;
    Outcome result;
    for (bool kill = false;; kill = !kill) {
      result = interrupted(options, 2, kill ? SIGKILL : SIGINT, /*before=*/kill);
      if (result.code == 0) break;
      ASSERT_EQ(result.code, kill ? 128 + SIGKILL : 7) << result.err;
      if (!kill) EXPECT_TRUE(has(result.err, "the same command goes on from here")) << result.err;
      EXPECT_EQ(bytes_of(output_), "old");
      EXPECT_FALSE(files_in(kept_).empty());
      ASSERT_LT(++interruptions, 30);
    }
    EXPECT_GE(interruptions, 3) << options.back();
    EXPECT_TRUE(has(result.err, "continued: ")) << result.err;
    EXPECT_TRUE(bytes_of(output_) == whole) << options.back();
    EXPECT_EQ(files_in(out_), Strings{"out.pt"});
  }
}

TEST_F(Resume, KilledBeforeTheModelHasItsNameEverythingIsReused) {
  const Strings options = int4({"--gptq"});
  const std::string whole = expected(options);
  std::ofstream(output_) << "old";
  // 6 matrices of the blocks take GPTQ; the seventh file is the model.
  ASSERT_EQ(interrupted(options, 7, SIGKILL, /*before=*/true).code, 128 + SIGKILL);
  EXPECT_EQ(bytes_of(output_), "old");
  const auto result = compress(options);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(has(result.err, "continued: 6 of 8 weights")) << result.err;
  EXPECT_TRUE(bytes_of(output_) == whole);
  EXPECT_EQ(files_in(out_), Strings{"out.pt"});
}

TEST_F(Resume, DamagedAndForeignFilesAreLeftAside) {
  const Strings options = int4({"--gptq"});
  const std::string whole = expected(options);
  ASSERT_EQ(interrupted(options, 7, SIGKILL, /*before=*/true).code, 128 + SIGKILL);
  const auto files = files_in(kept_);
  ASSERT_EQ(files.size(), 6U);
  const auto path = [&](size_t i) { return kept_ + "/" + files[i]; };
  fs::resize_file(path(0), fs::file_size(path(0)) / 2);
  fs::resize_file(path(1), 0);
  std::string flipped = bytes_of(path(2));
  flipped[flipped.size() - 3] = static_cast<char>(flipped[flipped.size() - 3] ^ 8);
  std::ofstream(path(2), std::ios::binary) << flipped;
  fs::copy_file(path(4), path(3), fs::copy_options::overwrite_existing);
  const auto result = compress(options);
  ASSERT_EQ(result.code, 0) << result.err;
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(has(result.err, files[i] + ": the file is damaged")) << result.err;
  EXPECT_TRUE(has(result.err, files[3] + ": the file is of another model")) << result.err;
  EXPECT_TRUE(has(result.err, "continued: 2 of 8")) << result.err;
  EXPECT_TRUE(bytes_of(output_) == whole);
}

TEST_F(Resume, OtherOptionsModelsAndDataStartAfresh) {
  const Strings options = int4({"--gptq"}), others = int4({"--gptq", "--gptq-damp-percent", "0.2"});
  const std::string whole = expected(others);
  ASSERT_EQ(interrupted(options, 4, SIGKILL).code, 128 + SIGKILL);
  const auto result = compress(others);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(has(result.err, "4 results in")) << result.err;
  EXPECT_FALSE(has(result.err, "continued")) << result.err;
  EXPECT_TRUE(bytes_of(output_) == whole);
  // A killed run may also leave a file that has no name yet.
  ASSERT_EQ(interrupted(options, 4, SIGKILL, /*before=*/true).code, 128 + SIGKILL);
  EXPECT_EQ(files_in(kept_).size(), 4U);
  const auto fewer = compress(int4({"--gptq", "--limit", "8"}));
  EXPECT_FALSE(has(fewer.err, "continued")) << fewer.err;
  EXPECT_EQ(files_in(out_), Strings{"out.pt"});
}

TEST_F(Resume, TheFormDoesNotMatter) {
  const std::string whole = expected(int4({"--gptq", "--form", "reference"}));
  ASSERT_EQ(interrupted(int4({"--gptq"}), 4, SIGKILL).code, 128 + SIGKILL);
  const auto result = compress(int4({"--gptq", "--form", "reference"}));
  EXPECT_TRUE(has(result.err, "continued: 4 of 8")) << result.err;
  EXPECT_TRUE(bytes_of(output_) == whole);
}

TEST_F(Resume, MayBeSwitchedOff) {
  ASSERT_EQ(interrupted(int4({"--gptq", "--no-resume"}), 1, SIGKILL, /*before=*/true).code, 128 + SIGKILL);
  EXPECT_FALSE(fs::exists(kept_));
  EXPECT_EQ(compress(int4({"--gptq", "--no-resume", "--resume-dir", kept_})).code, 2);
}

TEST_F(Resume, StatisticsAreKeptToo) {
  const Strings options = int4({"--scale-estimation"});
  const std::string whole = expected(options);
  ASSERT_EQ(interrupted(options, 1, SIGKILL).code, 128 + SIGKILL);
  const auto files = files_in(kept_);
  ASSERT_EQ(files.size(), 1U);
  EXPECT_TRUE(has(files[0], "-inputs-")) << files[0];
  ASSERT_EQ(compress(options).code, 0);
  EXPECT_TRUE(bytes_of(output_) == whole);
}

TEST_F(Resume, TheFolderMayBeChosen) {
  const std::string folder = out_ + "/mine";
  const Strings options = int4({"--gptq", "--resume-dir", folder});
  ASSERT_EQ(interrupted(options, 2, SIGKILL).code, 128 + SIGKILL);
  EXPECT_EQ(files_in(folder).size(), 2U);
  std::ofstream(folder + "/notes.txt") << "mine";
  EXPECT_TRUE(has(compress(options).err, "continued: 2 of 8"));
  EXPECT_EQ(files_in(folder), Strings{"notes.txt"});
  std::ofstream(kept_) << "no folder";
  const auto without = compress(int4({"--gptq"}));
  EXPECT_EQ(without.code, 0) << without.err;
  EXPECT_TRUE(has(without.err, "could not be continued")) << without.err;
  EXPECT_EQ(compress(int4({"--gptq", "--resume-dir", kept_})).code, 7);
}

}  // namespace
}  // namespace tsquant
