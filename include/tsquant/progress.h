#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace tsquant {

/// Called after each calibration sample; return false to cancel (throws Error kCancelled).
using Progress = std::function<bool(const std::string& phase, int64_t done, int64_t total)>;

}  // namespace tsquant
