#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace tsquant::testing {

/// Starts a program as a process of its own, with its standard error in a file.
pid_t start(const std::vector<std::string>& arguments, const std::string& log);

/// Waits for its end. @return its exit code; -1 when a signal ended it
int exit_code_of(pid_t child);

}  // namespace tsquant::testing
