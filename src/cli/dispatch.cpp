#include "cli/dispatch.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <cstdio>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/value_checks.h"

namespace tsquant::cli {

namespace {

int run(int argc, char** argv) {
  CLI::App app("Quantization and weight compression of TorchScript models", "tsquant");
  app.set_version_flag("--version", TSQUANT_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 ok, 2 usage, 3 load, 4 unsupported, 5 dataset, 6 accuracy limit, 7 internal, output or cancelled");
  add_quantize(app);
  add_compress(app);
  add_prepare(app);
  add_convert(app);
  add_strip(app);
  add_annotate(app);
  add_inspect(app);
  add_evaluate(app);
  add_compare(app);
  add_benchmark(app);
  add_report(app);
  add_options(app);
  add_demo(app);
  for (CLI::App* command : app.get_subcommands(nullptr)) explain_values(*command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (app.exit(error) != 0) return 2;
  }
  require_written_stdout();
  return 0;
}

}  // namespace

int dispatch(int argc, char** argv) {
  catch_signals();
  try {
    return run(argc, argv);
  } catch (const Error& error) {
    log_line(fmt::format("tsquant: {} error: {}", to_string(error.code()), error.what()));
    return exit_code(error.code());
  } catch (const c10::Error& error) {
    // Without the backtrace, which is for LibTorch's developers.
    log_line(fmt::format("tsquant: internal error: {}", error.what_without_backtrace()));
    return 7;
  } catch (const std::exception& error) {
    log_line(fmt::format("tsquant: internal error: {}", error.what()));
    return 7;
  } catch (...) {
    log_line("tsquant: internal error: something that is no exception was thrown");
    return 7;
  }
}

}  // namespace tsquant::cli
