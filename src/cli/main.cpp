#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <cstdio>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/value_checks.h"

namespace {

int run(int argc, char** argv) {
  CLI::App app("Quantization of TorchScript models", "tsquant");
  app.set_version_flag("--version", TSQUANT_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 ok, 2 usage, 3 load, 4 unsupported, 5 dataset, 6 accuracy limit, 7 internal, output or cancelled");
  tsquant::cli::add_quantize(app);
  tsquant::cli::add_strip(app);
  tsquant::cli::add_annotate(app);
  tsquant::cli::add_inspect(app);
  tsquant::cli::add_evaluate(app);
  tsquant::cli::add_compare(app);
  tsquant::cli::add_benchmark(app);
  tsquant::cli::add_report(app);
  tsquant::cli::add_demo(app);
  for (CLI::App* command : app.get_subcommands(nullptr)) tsquant::cli::explain_values(*command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (app.exit(error) != 0) return 2;
  }
  tsquant::cli::require_written_stdout();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  tsquant::cli::catch_signals();
  try {
    return run(argc, argv);
  } catch (const tsquant::Error& error) {
    fmt::print(stderr, "tsquant: {} error: {}\n", tsquant::to_string(error.code()), error.what());
    return tsquant::cli::exit_code(error.code());
  } catch (const c10::Error& error) {
    // Without the backtrace, which is for LibTorch's developers.
    fmt::print(stderr, "tsquant: internal error: {}\n", error.what_without_backtrace());
    return 7;
  } catch (const std::exception& error) {
    fmt::print(stderr, "tsquant: internal error: {}\n", error.what());
    return 7;
  } catch (...) {
    fmt::print(stderr, "tsquant: internal error: something that is no exception was thrown\n");
    return 7;
  }
}
