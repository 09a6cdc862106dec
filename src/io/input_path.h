#pragma once

#include <string>

#include "tsquant/error.h"

namespace tsquant {

/// @throws Error of this code, with the path and the system's reason, when a file or folder exists but cannot be read
void require_readable(const std::string& path, ErrorCode code);

}  // namespace tsquant
