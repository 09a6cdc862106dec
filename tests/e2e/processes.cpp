#include "e2e/processes.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

namespace tsquant::testing {

pid_t start(const std::vector<std::string>& arguments, const std::string& log) {
  const pid_t child = fork();
  if (child != 0) return child;
  // Sanitizers and LibTorch are loaded anew by exec; nothing of this process is used.
  std::freopen(log.c_str(), "w", stderr);
  std::freopen("/dev/null", "w", stdout);
  std::vector<char*> pointers;
  for (const auto& argument : arguments) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  execv(pointers[0], pointers.data());
  _exit(127);
}

int exit_code_of(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace tsquant::testing
