#pragma once

#include <ATen/core/ivalue.h>

#include <string>
#include <unordered_map>
#include <vector>

namespace tsquant {

/// One call of the model: positional arguments of `forward` (without self) and keyword arguments.
struct Sample {
  std::vector<c10::IValue> args;
  std::unordered_map<std::string, c10::IValue> kwargs;
};

}  // namespace tsquant
