#include "io/output_target.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "tsquant/error.h"

namespace tsquant {

namespace {

namespace fs = std::filesystem;

constexpr int kMostLinks = 40;  // as the kernel

/// 0, or the number of the error that using the path in this way would give.
int access_error(const std::string& path, int mode) {
  return faccessat(AT_FDCWD, path.c_str(), mode, AT_EACCESS) == 0 ? 0 : errno;
}

/// The folder without links. @throws Error kIo
std::string real_folder(const fs::path& path, const std::string& given, const std::string& what) {
  const std::string folder = path.parent_path().empty() ? "." : path.parent_path().string();
  char* resolved = realpath(folder.c_str(), nullptr);
  if (!resolved) {
    if (errno == ENOENT) fail_output(given, what, fmt::format("there is no folder \"{}\"", folder));
    fail_output(given, what, errno);
  }
  const std::string result = resolved;
  std::free(resolved);
  return result;
}

/// /proc/PID/fd, to which /dev/fd and /dev/stdout lead. What stands there is open already: replacing the file behind it
/// would take it from the program that opened it.
bool holds_descriptors(const std::string& folder) {
  return folder.rfind("/proc/", 0) == 0 && folder.size() > 3 && folder.compare(folder.size() - 3, 3, "/fd") == 0;
}

/// The number of a descriptor of this process, else -1.
int own_descriptor(const std::string& folder, const std::string& name) {
  const std::string own = fmt::format("/proc/{}/", getpid());
  if (folder.rfind(own, 0) != 0 || name.empty() || name.size() > 9) return -1;
  return name.find_first_not_of("0123456789") == std::string::npos ? std::stoi(name) : -1;
}

/// Reads one link. @throws Error kIo
fs::path link_target(const std::string& path, const std::string& given, const std::string& what) {
  std::error_code error;
  const fs::path target = fs::read_symlink(path, error);
  if (error) fail_output(given, what, error.message());
  return target.is_absolute() ? target : fs::path(path).parent_path() / target;
}

OutputTarget resolve(const std::string& given, const std::string& what) {
  if (given.empty()) fail_output(given, what, "its name is empty");
  OutputTarget target;
  target.given = given;
  fs::path path = given;
  for (int links = 0; links < kMostLinks; ++links) {
    target.folder = real_folder(path, given, what);
    const std::string name = path.filename().string();
    target.path = (fs::path(target.folder) / name).string();
    const bool open = holds_descriptors(target.folder);
    if ((open ? stat : lstat)(target.path.c_str(), &target.status) != 0) {
      if (errno != ENOENT || open) fail_output(given, what, errno);
      return target;
    }
    target.exists = true;
    target.replaced = !open && S_ISREG(target.status.st_mode);
    if (open) target.descriptor = own_descriptor(target.folder, name);
    if (!S_ISLNK(target.status.st_mode)) return target;
    path = link_target(target.path, given, what);
    target.exists = false;
    target.replaced = true;
  }
  fail_output(given, what, ELOOP);
}

std::string advice_for(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return "make room, or write it elsewhere";
    case ENAMETOOLONG:
      return "choose a shorter name";
    default:
      return "check that the folder exists and is writable";
  }
}

[[noreturn]] void fail(const std::string& path, const std::string& what, const std::string& reason,
                       const std::string& advice) {
  throw Error(ErrorCode::kIo, fmt::format("cannot write the {}: {}", what, reason), path, advice);
}

}  // namespace

void fail_output(const std::string& path, const std::string& what, const std::string& reason) {
  fail(path, what, reason, advice_for(0));
}

void fail_output(const std::string& path, const std::string& what, int error_number) {
  fail(path, what, std::strerror(error_number), advice_for(error_number));
}

OutputTarget writable_target(const std::string& path, const std::string& what) {
  const OutputTarget target = resolve(path, what);
  if (target.exists && S_ISDIR(target.status.st_mode)) fail_output(path, what, "this is a folder");
  if (target.descriptor >= 0) return target;
  const int file = target.exists ? access_error(target.path, W_OK) : 0;
  if (file != 0) fail_output(path, what, file);
  const int folder = target.replaced ? access_error(target.folder, W_OK | X_OK) : 0;
  if (folder != 0) fail_output(path, what, fmt::format("in the folder: {}", std::strerror(folder)));
  return target;
}

void check_output(const std::string& path, const std::string& what) { writable_target(path, what); }

void check_output_folder(const std::string& path, const std::string& what) {
  fs::path existing = fs::absolute(path).lexically_normal();
  if (existing.filename().empty()) existing = existing.parent_path();
  struct stat status = {};
  while (stat(existing.c_str(), &status) != 0) {
    if (errno != ENOENT || existing == existing.parent_path()) fail_output(path, what, errno);
    existing = existing.parent_path();
  }
  if (!S_ISDIR(status.st_mode)) fail_output(path, what, fmt::format("\"{}\" is no folder", existing.string()));
  const int error = access_error(existing.string(), W_OK | X_OK);
  if (error != 0) fail_output(path, what, fmt::format("in \"{}\": {}", existing.string(), std::strerror(error)));
}

bool same_output(const std::string& a, const std::string& b) {
  const OutputTarget first = resolve(a, "file"), second = resolve(b, "file");
  // What is written into a device or a pipe one after the other does not replace what was there.
  return first.replaced && second.replaced && first.path == second.path;
}

}  // namespace tsquant
