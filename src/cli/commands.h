#pragma once

#include <CLI/CLI.hpp>

namespace tsquant::cli {

// Each adds one sub-command; the work happens in the callback, when the command line has been parsed.
void add_quantize(CLI::App& app);
void add_compress(CLI::App& app);
void add_prepare(CLI::App& app);
void add_convert(CLI::App& app);
void add_strip(CLI::App& app);
void add_annotate(CLI::App& app);
void add_inspect(CLI::App& app);
void add_evaluate(CLI::App& app);
void add_compare(CLI::App& app);
void add_benchmark(CLI::App& app);
void add_report(CLI::App& app);
void add_options(CLI::App& app);
void add_demo(CLI::App& app);

}  // namespace tsquant::cli
