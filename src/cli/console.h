#pragma once

#include <string>

#include "tsquant/error.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant::cli {

/// 0 ok, 2 usage, 3 load, 4 unsupported, 5 dataset, 6 accuracy limit, 7 internal, output or cancelled.
int exit_code(ErrorCode code);

/// Lets Ctrl-C, or the SIGTERM of batch systems and containers, cancel at the next sample; the second one ends the
/// program at once. Writing beyond `ulimit -f` becomes an error instead of a signal.
void catch_signals();
bool interrupted();
/// SIGTERM has come, which reaches this process alone: Ctrl-C reaches the programs that it started too.
bool terminated();
/// @throws Error kCancelled after Ctrl-C or SIGTERM
void stop_if_interrupted();

/// Reports to stderr, with the time that the phase has taken and will still take: a bar on a terminal, otherwise a line
/// every ten seconds. Cancels after Ctrl-C or SIGTERM.
Progress console_progress();

/// Remarks for people, on stderr.
void log_line(const std::string& text);

/// Writes text to a file, or to stdout for "-". @param what the content in the words of messages @throws Error kIo
void write_text(const std::string& path, const std::string& what, const std::string& text);

/// A result that did not reach stdout is an error, at the end of every command. @throws Error kIo
void require_written_stdout();

}  // namespace tsquant::cli
