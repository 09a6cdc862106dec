#include "unit/prepare/python_records.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <torch/script.h>

#include <cstdlib>
#include <stdexcept>

#include "support/support.h"

namespace tsquant::testing {

NamedTensors python_records(const std::string& script, const std::string& arguments) {
  const char* set = std::getenv("TSQUANT_PYTHON");
  const std::string out = temp_dir() + "/records.pt";
  const std::string command = fmt::format("{} '{}/tests/e2e/{}' {} '{}'", set ? set : "/usr/bin/python3",
                                          TSQUANT_SOURCE_DIR, script, arguments, out);
  const int status = std::system(command.c_str()), code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (code == 77 || code == 127) return {};
  if (code != 0) throw std::runtime_error(fmt::format("{} ends with {}", command, code));
  NamedTensors records;
  for (const auto& entry : torch::jit::load(out).attr("records").toGenericDict()) {
    records[entry.key().toStringRef()] = entry.value().toTensor();
  }
  return records;
}

}  // namespace tsquant::testing
