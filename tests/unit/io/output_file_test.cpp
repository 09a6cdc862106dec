#include "io/output_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

#include "io/write_module.h"
#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant {
namespace {

namespace fs = std::filesystem;

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void put(const std::string& path, const std::string& content) { std::ofstream(path, std::ios::binary) << content; }

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

mode_t mode_of(const std::string& path) {
  struct stat status = {};
  EXPECT_EQ(stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777;
}

/// The error that the action throws, which must be one of writing.
std::string output_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

void write_to(const std::string& path) { write_file(path, "report", "new"); }

/// Files of this process may not grow beyond a size while it lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limited{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limited);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_;
};

/// Root may read and write everything: permissions show for another user only.
class AnotherUser {
 public:
  AnotherUser() : root_(geteuid() == 0) {
    if (root_ && seteuid(65534) != 0) ADD_FAILURE() << "cannot become another user";
  }
  ~AnotherUser() {
    if (root_ && seteuid(0) != 0) ADD_FAILURE() << "cannot become root again";
  }

 private:
  bool root_;
};

TEST(OutputFile, StandsUnderItsNameWhenItIsComplete) {
  const std::string folder = testing::temp_dir(), path = folder + "/out";
  put(path, "old");
  {
    OutputFile file(path, "report");
    file.write("ne");
    file.write("w");
    EXPECT_EQ(content_of(path), "old");
    EXPECT_EQ(content_of(file.staged_path()), "new");
    file.commit();
  }
  EXPECT_EQ(content_of(path), "new");
  EXPECT_EQ(names_in(folder), std::vector<std::string>{"out"});
}

TEST(OutputFile, LeavesNothingWithoutCommit) {
  const std::string folder = testing::temp_dir();
  { OutputFile(folder + "/out", "report").write("new"); }
  EXPECT_TRUE(names_in(folder).empty());
}

TEST(OutputFile, KeepsThePermissionsOfTheFileThatItReplaces) {
  const std::string folder = testing::temp_dir();
  for (const mode_t mode : {0600, 0640, 0664}) {
    put(folder + "/out", "old");
    chmod((folder + "/out").c_str(), mode);
    write_to(folder + "/out");
    EXPECT_EQ(mode_of(folder + "/out"), mode);
  }
  const mode_t mask = umask(027);
  write_to(folder + "/fresh");
  umask(mask);
  EXPECT_EQ(mode_of(folder + "/fresh"), 0640u);
}

TEST(OutputFile, ATemporaryFileIsAsPrivateAsTheOneThatItReplaces) {
  const std::string path = testing::temp_dir() + "/out";
  put(path, "old");
  chmod(path.c_str(), 0600);
  const OutputFile file(path, "report");
  EXPECT_EQ(mode_of(file.staged_path()), 0600u);
}

TEST(OutputFile, FollowsLinks) {
  const std::string folder = testing::temp_dir();
  fs::create_directory(folder + "/sub");
  put(folder + "/sub/target", "old");
  fs::create_symlink("sub/target", folder + "/link");
  fs::create_symlink("link", folder + "/link_to_link");
  fs::create_symlink(folder + "/sub/absent", folder + "/dangling");
  for (const std::string name : {"link_to_link", "dangling"}) {
    write_to(folder + "/" + name);
    EXPECT_TRUE(fs::is_symlink(folder + "/" + name)) << name;
  }
  EXPECT_EQ(content_of(folder + "/sub/target"), "new");
  EXPECT_EQ(content_of(folder + "/sub/absent"), "new");
  EXPECT_EQ(names_in(folder + "/sub"), (std::vector<std::string>{"absent", "target"}));
  fs::create_symlink("circle", folder + "/circle");
  EXPECT_NE(output_error([&] { write_to(folder + "/circle"); }).find("symbolic links"), std::string::npos);
}

TEST(OutputFile, WritesIntoAFifo) {
  const std::string folder = testing::temp_dir(), path = folder + "/fifo";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  std::string received;
  std::thread reader([&] { received = content_of(path); });
  const std::string large(300000, 'x');  // more than a pipe holds at a time
  write_file(path, "report", large);
  reader.join();
  EXPECT_TRUE(received == large);
  EXPECT_TRUE(fs::is_fifo(path));
  EXPECT_EQ(names_in(folder), std::vector<std::string>{"fifo"});
}

TEST(OutputFile, WritesIntoAnOpenDescriptorWhereItStands) {
  const std::string path = testing::temp_dir() + "/log";
  const int log = open(path.c_str(), O_WRONLY | O_CREAT, 0644);
  ASSERT_EQ(write(log, "before ", 7), 7);
  struct stat before = {}, after = {};
  fstat(log, &before);
  write_to("/dev/fd/" + std::to_string(log));
  ASSERT_EQ(write(log, " after", 6), 6);
  close(log);
  stat(path.c_str(), &after);
  EXPECT_EQ(before.st_ino, after.st_ino);
  EXPECT_EQ(content_of(path), "before new after");
}

TEST(OutputFile, WritesIntoADevice) {
  for (const char* device : {"/dev/null", "/dev/full"}) {
    if (!fs::is_character_file(device)) GTEST_SKIP() << "no device " << device;
  }
  write_to("/dev/null");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  const std::string error = output_error([] { write_to("/dev/full"); });
  EXPECT_NE(error.find("No space left"), std::string::npos) << error;
  EXPECT_TRUE(fs::is_character_file("/dev/full"));
}

TEST(OutputFile, NamesMayBeAsLongAsTheSystemAllows) {
  const std::string folder = testing::temp_dir();
  write_to(folder + "/" + std::string(255, 'x'));
  EXPECT_EQ(names_in(folder), std::vector<std::string>{std::string(255, 'x')});
  const std::string error = output_error([&] { write_to(folder + "/" + std::string(256, 'x')); });
  EXPECT_NE(error.find("name too long"), std::string::npos) << error;
  EXPECT_NE(output_error([] { write_to(std::string(5000, 'x')); }).find("name too long"), std::string::npos);
}

TEST(OutputFile, AFileLimitIsAnErrorAndLeavesTheOldFile) {
  const std::string folder = testing::temp_dir(), path = folder + "/out";
  put(path, "old");
  std::string error;
  {
    const FileSizeLimit limit(1000);
    error = output_error([&] { write_file(path, "report", std::string(4000, 'x')); });
  }
  EXPECT_NE(error.find("cannot write the report: File too large (at " + path + ")"), std::string::npos) << error;
  EXPECT_EQ(content_of(path), "old");
  EXPECT_EQ(names_in(folder), std::vector<std::string>{"out"});
}

TEST(OutputFile, ALimitWithinAnArchiveIsAnErrorToo) {
  torch::jit::Module module("Data");
  module.register_buffer("t", at::zeros({10000}));
  const std::string folder = testing::temp_dir();
  for (const rlim_t limit : {100, 1000, 20000, 41000}) {
    const FileSizeLimit limited(limit);
    EXPECT_NE(output_error([&] { tsquant::save_module(folder + "/m.pt", "model", module); }).find("File too large"),
              std::string::npos)
        << limit;
    EXPECT_TRUE(names_in(folder).empty()) << limit;
  }
}

TEST(OutputFile, ArchivesAreThoseOfLibTorchWhateverTheirName) {
  const auto module = testing::define("def forward(self, x):\n  return torch.relu(x + self.w)\n", {{"w", at::ones(3)}});
  const std::string folder = testing::temp_dir();
  tsquant::save_module(folder + "/a.pt", "model", module, {{"note", "text"}});
  tsquant::save_module(folder + "/other.pt", "model", module, {{"note", "text"}});
  std::ostringstream expected;
  module.save(expected, {{"note", "text"}});
  EXPECT_TRUE(content_of(folder + "/a.pt") == expected.str());
  EXPECT_TRUE(content_of(folder + "/other.pt") == expected.str());
}

/// The temporary file of a process that was killed while it wrote.
std::string killed_writer(const std::string& path) {
  const pid_t child = fork();
  if (child == 0) {
    OutputFile file(path, "report");
    file.write("half");
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  for (const auto& name : names_in(fs::path(path).parent_path())) {
    if (name.find("-" + std::to_string(child) + "-") != std::string::npos) return name;
  }
  ADD_FAILURE() << "nothing was left";
  return "";
}

TEST(OutputFile, RemovesWhatKilledRunsLeft) {
  const std::string folder = testing::temp_dir();
  killed_writer(folder + "/out");
  const std::string other = killed_writer(folder + "/other");
  {
    const OutputFile alive(folder + "/out", "report");  // of a process that exists
    write_to(folder + "/out");
    EXPECT_TRUE(fs::exists(alive.staged_path()));
  }
  EXPECT_EQ(names_in(folder), (std::vector<std::string>{other, "out"}));
}

TEST(OutputFile, KeepsWhatAWriterInAnotherContainerHolds) {
  const std::string folder = testing::temp_dir(), left = folder + "/" + killed_writer(folder + "/out");
  const int held = open(left.c_str(), O_RDONLY);
  ASSERT_EQ(flock(held, LOCK_EX | LOCK_NB), 0);
  write_to(folder + "/out");
  EXPECT_TRUE(fs::exists(left));
  close(held);
  write_to(folder + "/out");
  EXPECT_FALSE(fs::exists(left));
}

TEST(OutputTarget, SaysWhyNothingCanBeWritten) {
  const std::string folder = testing::temp_dir();
  const auto error = [](const std::string& path) { return output_error([&] { check_output(path, "model"); }); };
  EXPECT_NE(error("no_such_folder/out.pt").find("there is no folder \"no_such_folder\" (at no_such_folder/out.pt)"),
            std::string::npos);
  EXPECT_NE(error(folder).find("this is a folder"), std::string::npos);
  EXPECT_NE(error("/dev/null/out.pt").find("Not a directory"), std::string::npos);
  EXPECT_NE(error("").find("name is empty"), std::string::npos);
  EXPECT_TRUE(names_in(folder).empty());
  check_output(folder + "/out.pt", "model");
  EXPECT_TRUE(names_in(folder).empty());
}

TEST(OutputTarget, SaysThatPermissionsAreMissing) {
  const std::string folder = testing::temp_dir();
  put(folder + "/locked", "old");
  chmod((folder + "/locked").c_str(), 0444);
  chmod(folder.c_str(), 0555);
  const AnotherUser user;
  for (const std::string name : {"/locked", "/fresh"}) {
    const std::string error = output_error([&] { check_output(folder + name, "model"); });
    EXPECT_NE(error.find("Permission denied"), std::string::npos) << error;
  }
  const std::string error = output_error([&] { check_output_folder(folder + "/a/b", "models"); });
  EXPECT_NE(error.find("in \"" + folder + "\": Permission denied"), std::string::npos) << error;
}

TEST(OutputTarget, FoldersMayBeMadeBelowOnesThatExist) {
  const std::string folder = testing::temp_dir();
  check_output_folder(folder + "/a/b/", "models");
  EXPECT_TRUE(names_in(folder).empty());
  put(folder + "/file", "");
  for (const std::string path : {"/file", "/file/below"}) {
    EXPECT_FALSE(output_error([&] { check_output_folder(folder + path, "models"); }).empty());
  }
}

TEST(OutputTarget, KnowsOneFileByItsSpellings) {
  const std::string folder = testing::temp_dir();
  fs::create_directory(folder + "/sub");
  fs::create_symlink(folder, folder + "/sub/up");
  fs::create_symlink("q.pt", folder + "/link");
  for (const std::string other : {"/q.pt", "/./q.pt", "/sub/../q.pt", "/sub/up/q.pt", "/link"}) {
    EXPECT_TRUE(same_output(folder + "/q.pt", folder + other)) << other;
  }
  EXPECT_TRUE(same_output(folder + "/q.pt", fs::relative(folder + "/q.pt").string()));
  EXPECT_FALSE(same_output(folder + "/q.pt", folder + "/sub/q.pt"));
  ASSERT_EQ(mkfifo((folder + "/fifo").c_str(), 0600), 0);
  EXPECT_FALSE(same_output(folder + "/fifo", folder + "/fifo"));
}

}  // namespace
}  // namespace tsquant
