#include "io/input_path.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tsquant {

void require_readable(const std::string& path, ErrorCode code) {
  struct stat status = {};
  int error = stat(path.c_str(), &status) == 0 ? 0 : errno;
  // Listing a folder is one permission, reaching what it holds is another.
  const int wanted = S_ISDIR(status.st_mode) ? R_OK | X_OK : R_OK;
  if (error == 0 && faccessat(AT_FDCWD, path.c_str(), wanted, AT_EACCESS) != 0) error = errno;
  if (error == 0) return;
  throw Error(code, std::string("cannot read it: ") + std::strerror(error), path,
              error == EACCES ? "check its permissions and those of the folders above it" : "");
}

}  // namespace tsquant
