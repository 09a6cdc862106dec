#pragma once

#include <string>
#include <vector>

namespace tsquant::cli {

/// Runs a program, found along PATH, and waits for it. Returns its exit status; 127 when it cannot be started, 128 +
/// signal when one ended it. SIGTERM is handed on to it.
int run_program(const std::vector<std::string>& arguments);

}  // namespace tsquant::cli
