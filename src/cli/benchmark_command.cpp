#include "evaluation/benchmark.h"

#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/text_table.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/value_checks.h"
#include "tsquant/error.h"

namespace tsquant::cli {

namespace {

/// Operators in a table: the slowest ones.
constexpr size_t kShown = 25;

struct BenchmarkArgs {
  std::vector<std::string> models;
  std::string json;
  DataArgs data;
  ShapeArgs shapes;
  BenchmarkOptions options;
};

nlohmann::ordered_json known_or_null(double milliseconds) {
  return milliseconds < 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(milliseconds);
}

std::string to_json(const std::vector<BenchmarkResult>& results, const BenchmarkOptions& options) {
  nlohmann::ordered_json json{{"threads", options.threads}, {"results", nlohmann::ordered_json::array()}};
  for (const auto& result : results) {
    json["results"].push_back({{"model", result.model},
                               {"median_ms", result.median_ms},
                               {"min_ms", result.min_ms},
                               {"ratio_to_first", result.ratio_to_first},
                               {"optimized", result.optimized},
                               {"rounds", result.rounds}});
    if (!options.profile && !options.explain) continue;
    auto operators = nlohmann::ordered_json::array();
    for (size_t i = 0; i < result.operators.size(); ++i) {
      const auto& time = result.operators[i];
      operators.push_back({{"name", time.name},
                           {"shapes", time.shapes},
                           {"calls", time.calls},
                           {"ms", time.ms},
                           {"megabytes", time.megabytes},
                           {"quantized", time.is_quantized}});
      if (options.profile) operators.back()["limit_ms"] = known_or_null(result.limit_ms[i]);
      if (!options.explain) continue;
      operators.back()["thousand_multiply_adds"] = time.work.multiply_adds + time.work.channel_multiply_adds;
      operators.back()["predicted_ms"] = known_or_null(result.predicted_ms[i]);
    }
    if (options.explain) json["results"].back()["rates"] = result.rates;
    json["results"].back()["operators"] = std::move(operators);
  }
  return json.dump(1);
}

std::string percent(double part, double whole) { return fmt::format("{:.1f} %", whole > 0 ? 100 * part / whole : 0); }

/// The operators of one model, the slowest first, and what it costs that some stayed float.
void print_profile(const BenchmarkResult& result) {
  double all = 0, quantized = 0, limited = 0, limit = 0;
  for (size_t i = 0; i < result.operators.size(); ++i) {
    const auto& time = result.operators[i];
    all += time.ms;
    if (time.is_quantized) quantized += time.ms;
    if (result.limit_ms[i] < 0) continue;
    limited += time.ms;
    limit += result.limit_ms[i];
  }
  const auto share = [&](double ms) { return percent(ms, all); };
  TextTable table({"operator", "shapes", "calls", "ms", "share", "MB", "GB/s", "of limit", "computes with"});
  table.align_right({2, 3, 4, 5, 6, 7});
  double rest = 0;
  for (size_t i = 0; i < result.operators.size(); ++i) {
    const auto& time = result.operators[i];
    if (i >= kShown) {
      rest += time.ms;
      continue;
    }
    table.add({time.name, time.shapes, fmt::format("{:g}", time.calls), fmt::format("{:.3f}", time.ms), share(time.ms),
               fmt::format("{:.2f}", time.megabytes), fmt::format("{:.1f}", time.megabytes / std::max(time.ms, 1e-9)),
               result.limit_ms[i] < 0 ? "-" : percent(result.limit_ms[i], time.ms),
               time.is_quantized ? "codes" : "floats"});
  }
  std::cout
      << fmt::format(
             "\n{}: {:.3f} ms in operators, {} with codes, {} that stayed float; they run at {} of the processor's "
             "limit (multiply-adds in registers, or bytes where so many fit)\n",
             result.model, all, share(quantized), share(all - quantized), percent(limit, limited))
      << table.text();
  if (result.operators.size() > kShown) {
    std::cout << fmt::format("and {} more: {:.3f} ms, {}; all of them: --json\n", result.operators.size() - kShown,
                             rest, share(rest));
  }
}

/// What the table of costs, which decides what is lowered, expects of the operators, and what they took.
void print_explanation(const BenchmarkResult& result) {
  TextTable table(
      {"operator", "shapes", "calls", "million products", "predicted ms", "measured ms", "measured/predicted"});
  table.align_right({2, 3, 4, 5, 6});
  double predicted = 0, measured = 0, unknown = 0;
  for (size_t i = 0; i < result.operators.size(); ++i) {
    const auto& time = result.operators[i];
    const double expected = result.predicted_ms[i];
    const double products = time.work.multiply_adds + time.work.channel_multiply_adds;
    (expected < 0 ? unknown : measured) += time.ms;
    predicted += std::max(expected, 0.0);
    if (i >= kShown) continue;
    table.add({time.name, time.shapes, fmt::format("{:g}", time.calls),
               products > 0 ? fmt::format("{:.1f}", products / 1e3) : "",
               expected < 0 ? "-" : fmt::format("{:.3f}", expected), fmt::format("{:.3f}", time.ms),
               expected > 0 ? fmt::format("{:.2f}", time.ms / expected) : "-"});
  }
  std::cout
      << fmt::format(
             "\n{}: {:.3f} ms predicted by the row {} of the table of costs, {:.3f} measured ({:.2f}); {:.3f} ms in "
             "operators that it does not have\n",
             result.model, predicted, result.rates, measured, measured / std::max(predicted, 1e-9), unknown)
      << table.text();
  if (result.operators.size() > kShown)
    std::cout << fmt::format("the {} slowest operators; all of them: --json\n", kShown);
}

Sample sample_of(const BenchmarkArgs& args) {
  if (args.shapes.given()) return make_sample(args.shapes);
  if (!args.data.path.empty()) return open_data(args.data).dataset.get(0);
  throw Error(ErrorCode::kInvalidArgument, "the inputs are not known", "--input-shape",
              "give one --input-shape per input, or --data");
}

void run(const BenchmarkArgs& args) {
  check_outputs({{"--json", args.json, "times"}});
  const Sample sample = sample_of(args);
  std::vector<Runnable> models;
  for (const auto& path : args.models) models.push_back(load_runnable(path));
  const auto results = benchmark(std::move(models), sample, args.options);
  if (!args.json.empty()) {
    write_text(args.json, "times", to_json(results, args.options));
    return;
  }
  TextTable table({"model", "median ms", "min ms", "ratio", "times faster"});
  table.align_right({1, 2, 3, 4});
  for (const auto& result : results) {
    table.add({result.model + (result.optimized ? " (optimized)" : ""), fmt::format("{:.3f}", result.median_ms),
               fmt::format("{:.3f}", result.min_ms), fmt::format("{:.3f}", result.ratio_to_first),
               fmt::format("{:.2f}", 1 / result.ratio_to_first)});
  }
  std::cout << table.text();
  for (const auto& result : results) {
    if (args.options.profile) print_profile(result);
    if (args.options.explain) print_explanation(result);
  }
}

}  // namespace

void add_benchmark(CLI::App& app) {
  auto args = std::make_shared<BenchmarkArgs>();
  auto* command = app.add_subcommand("benchmark", "Time several models in turn, with equal conditions");
  command->add_option("models", args->models, "TorchScript files; ratios are to the first")->required();
  add_shape_options(*command, args->shapes);
  add_data_options(*command, args->data, 1, false);
  command->add_option("--threads", args->options.threads, "LibTorch's intra-op threads")
      ->check(thread_count())
      ->capture_default_str();
  command->add_option("--seconds", args->options.seconds, "Measure for about this long")->capture_default_str();
  command->add_option("--rounds", args->options.rounds, "Exact number of rounds instead of a time");
  command->add_flag("--optimize", args->options.optimize,
                    "Freeze float models and run LibTorch's optimize_for_inference on them");
  command->add_flag(
      "--profile", args->options.profile,
      "Time every operator as well: calls, bytes, share of what the processor could do, and what it costs that "
      "some stayed float");
  command->add_flag("--explain", args->options.explain,
                    "Compare every operator's time with what the table of costs predicts that lowering decides by");
  add_library_option(*command);
  add_json_option(*command, args->json);
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
