// The build of the library that a test runs on. Tests of the library are compiled once: .ci/run runs them on the
// sanitized build and on the release build.
#pragma once

#include <string>

namespace tsquant::testing {

/// Folder of the libraries: the environment's TSQUANT_LIB_DIR, or that of the build that compiled the test.
std::string lib_dir();
/// Whether the library looks for faults of memory (preset sanitize), which makes it slower.
bool is_sanitized();
/// How much longer limits of time are where the library is not optimized, with sanitizers or without.
double slower();

}  // namespace tsquant::testing
