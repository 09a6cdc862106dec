#include "support/build_under_test.h"

#include <dlfcn.h>

#include <cstdlib>

namespace tsquant::testing {

std::string lib_dir() {
  const char* set = std::getenv("TSQUANT_LIB_DIR");
  return set ? set : TSQUANT_LIB_DIR;
}

bool is_sanitized() { return dlsym(RTLD_DEFAULT, "__asan_init") != nullptr; }

double slower() {
#if defined(TSQUANT_UNOPTIMIZED)
  constexpr bool kUnoptimized = true;
#else
  constexpr bool kUnoptimized = false;
#endif
  return kUnoptimized || is_sanitized() ? 12 : 1;
}

}  // namespace tsquant::testing
