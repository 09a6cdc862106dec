#pragma once

#include <ATen/ATen.h>

#include <map>
#include <string>

namespace tsquant::testing {

using NamedTensors = std::map<std::string, at::Tensor>;

/// Runs tests/e2e/`script` with these arguments and the path of a TorchScript module that it writes behind them.
/// The interpreter is `TSQUANT_PYTHON`, or Debian's.
/// @return the module's dictionary `records`; empty: the interpreter has no torch (exit code 77), the test is to skip
/// @throws std::runtime_error when the script fails
NamedTensors python_records(const std::string& script, const std::string& arguments);

}  // namespace tsquant::testing
