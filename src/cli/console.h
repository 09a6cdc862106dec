#pragma once

#include <string>

#include "tsquant/error.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant::cli {

/// 0 ok, 2 usage, 3 load, 4 unsupported, 5 dataset, 6 accuracy limit, 7 internal, output or cancelled.
int exit_code(ErrorCode code);

/// Lets Ctrl-C cancel at the next sample; a second Ctrl-C ends the program at once.
void catch_interrupt();
bool interrupted();
/// @throws Error kCancelled after Ctrl-C
void stop_if_interrupted();

/// Reports to stderr: a bar on a terminal, otherwise a line every ten seconds. Cancels after Ctrl-C.
Progress console_progress();

/// Remarks for people, on stderr.
void log_line(const std::string& text);

/// Writes text to a file through a temporary one, or to stdout for "-". @throws Error kIo
void write_text(const std::string& path, const std::string& text);

}  // namespace tsquant::cli
