#include "io/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <vector>

namespace tsquant {

namespace {

namespace fs = std::filesystem;

/// Beyond the limit of `ulimit -f` the system sends SIGXFSZ, which ends a process that does not ignore it. Blocked, the
/// write fails with a number instead, and the signal is taken back.
class FileSizeSignal {
 public:
  FileSizeSignal() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  }
  ~FileSizeSignal() {
    if (sigismember(&before_, SIGXFSZ)) return;
    const timespec at_once{0, 0};
    sigtimedwait(&signals_, nullptr, &at_once);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t signals_, before_;
};

/// 0 or the number of the error.
int write_all(int descriptor, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(descriptor, data, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    data += written;
    size -= static_cast<size_t>(written);
  }
  return 0;
}

int copy_all(int from, int to) {
  std::vector<char> buffer(size_t{1} << 20);
  if (lseek(from, 0, SEEK_SET) < 0) return errno;
  for (;;) {
    const ssize_t got = read(from, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) return 0;
    const int error = write_all(to, buffer.data(), static_cast<size_t>(got));
    if (error != 0) return error;
  }
}

constexpr const char* kStagedStart = ".tsquant-";
constexpr const char* kStagedEnd = ".tmp";

/// ".tsquant-HASH-", the same for all temporary files of one output: short, since names may be as long as the system
/// allows.
std::string staged_prefix(const OutputTarget& target) {
  return fmt::format("{}{:016x}-", kStagedStart, std::hash<std::string>()(fs::path(target.path).filename().string()));
}

/// Whether the process that wrote the file is gone. Its number may be one of another machine or container: the lock
/// that it holds on the file is seen there too.
bool is_abandoned(const std::string& path, const std::string& process) {
  const int64_t id = std::strtoll(process.c_str(), nullptr, 10);
  if (id <= 0 || kill(static_cast<pid_t>(id), 0) == 0 || errno != ESRCH) return false;
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (file < 0) return false;
  const bool unlocked = flock(file, LOCK_EX | LOCK_NB) == 0;
  close(file);
  return unlocked;
}

/// Temporary files that killed runs left.
void remove_leftovers(const OutputTarget& target) {
  const std::string prefix = staged_prefix(target);
  std::error_code error;
  for (fs::directory_iterator entry(target.folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.rfind(prefix, 0) != 0) continue;
    if (is_abandoned(entry->path().string(), name.substr(prefix.size()))) unlink(entry->path().c_str());
  }
}

}  // namespace

OutputFile::OutputFile(const std::string& path, const std::string& what)
    : target_(writable_target(path, what)), what_(what) {
  if (target_.replaced) {
    stage_beside_target();
  } else {
    stage_in_memory();
  }
}

OutputFile::~OutputFile() {
  if (named_) unlink(staged_path_.c_str());
  if (staged_ >= 0) close(staged_);
}

void OutputFile::stage_beside_target() {
  static std::atomic<int64_t> count{0};
  remove_leftovers(target_);
  const std::string name = fmt::format("{}{}-{}{}", staged_prefix(target_), getpid(), count++, kStagedEnd);
  staged_path_ = (fs::path(target_.folder) / name).string();
  // A file that others may not read stays so while it is written.
  const mode_t mode = target_.exists ? 0600 : 0666;
  staged_ = open(staged_path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (staged_ < 0) fail_output(target_.given, what_, errno);
  named_ = true;
  flock(staged_, LOCK_EX | LOCK_NB);  // see is_abandoned; file systems without locks do without
}

void OutputFile::stage_in_memory() {
  staged_ = memfd_create("tsquant", MFD_CLOEXEC);
  if (staged_ < 0) fail_output(target_.given, what_, errno);
  staged_path_ = fmt::format("/proc/{}/fd/{}", getpid(), staged_);
}

void OutputFile::write(const void* data, size_t size) noexcept {
  if (failure_ != 0) return;
  const FileSizeSignal blocked;
  failure_ = write_all(staged_, static_cast<const char*>(data), size);
}

void OutputFile::require_written() const {
  if (failure_ != 0) fail_output(target_.given, what_, failure_);
}

void OutputFile::commit() {
  require_written();
  if (target_.replaced) {
    replace_target();
  } else {
    copy_into_target();
  }
}

void OutputFile::replace_target() {
  if (target_.exists) {
    // Another user's file stays theirs where that is allowed, which is for root only.
    if (fchown(staged_, target_.status.st_uid, target_.status.st_gid) != 0) errno = 0;
    if (fchmod(staged_, target_.status.st_mode & 07777) != 0) fail_output(target_.given, what_, errno);
  }
  // File systems over a network report a full disk when a descriptor is closed. The lock belongs to both descriptors
  // and stays until the file has its name.
  const int copy = dup(staged_);
  if (copy >= 0 && close(copy) != 0) fail_output(target_.given, what_, errno);
  if (rename(staged_path_.c_str(), target_.path.c_str()) != 0) fail_output(target_.given, what_, errno);
  named_ = false;
}

void OutputFile::copy_into_target() {
  const int into = target_.descriptor >= 0 ? dup(target_.descriptor) : open(target_.path.c_str(), O_WRONLY | O_CLOEXEC);
  if (into < 0) fail_output(target_.given, what_, errno);
  const FileSizeSignal blocked;
  const int error = copy_all(staged_, into);
  const int at_close = close(into) == 0 ? 0 : errno;
  if (error != 0 || at_close != 0) fail_output(target_.given, what_, error != 0 ? error : at_close);
}

bool is_staged_file(const std::string& name) {
  const std::string end = kStagedEnd;
  return name.rfind(kStagedStart, 0) == 0 && name.size() > end.size() &&
         name.compare(name.size() - end.size(), end.size(), end) == 0;
}

void write_file(const std::string& path, const std::string& what, const std::string& content) {
  OutputFile file(path, what);
  file.write(content);
  file.commit();
}

}  // namespace tsquant
