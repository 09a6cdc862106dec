#pragma once

#include <exception>
#include <string>

namespace tsquant {

/// The first line of what an exception of LibTorch or the standard library says, without a backtrace and without what
/// LibTorch says about itself: places in its source and the request to report the failed check.
std::string short_message(const std::exception& error);

/// What an operator says that failed in LibTorch's interpreter, which wraps it into a traceback.
std::string operator_message(const std::exception& error);

}  // namespace tsquant
