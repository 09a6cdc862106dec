#pragma once

#include <CLI/CLI.hpp>

namespace tsquant::cli {

/// Gives the options of a command with numbers and truth values a check that says what is allowed: "abc" for a number
/// is not just something that cannot be converted.
void explain_values(CLI::App& command);

/// For options that start threads. LibTorch would start any number, until the system refuses and ends the process.
CLI::Validator thread_count();

}  // namespace tsquant::cli
