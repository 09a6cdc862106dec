#include <fmt/format.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "base/text_table.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "evaluation/compare.h"
#include "io/archive_info.h"
#include "tsquant/engine.h"

namespace tsquant::cli {

namespace {

struct CompareArgs {
  std::string float_model, quantized_model, json;
  DataArgs data;
  int64_t subset_size = 16;
  size_t top = 20, suggest = 5;
};

nlohmann::ordered_json to_json(const LayerError& layer) {
  return {{"name", layer.name},     {"fx_name", layer.fx_name},     {"type", layer.type},   {"sqnr_db", layer.sqnr_db},
          {"cosine", layer.cosine}, {"max_error", layer.max_error}, {"noise", layer.noise}, {"added", layer.added}};
}

std::string to_json(const Comparison& comparison, const std::vector<std::string>& suggestions) {
  nlohmann::ordered_json json{{"samples", comparison.samples},
                              {"unmatched", comparison.unmatched},
                              {"outputs", nlohmann::ordered_json::array()},
                              {"layers", nlohmann::ordered_json::array()},
                              {"suggestions", suggestions}};
  for (const auto& output : comparison.outputs) json["outputs"].push_back(to_json(output));
  for (const auto& layer : comparison.layers) json["layers"].push_back(to_json(layer));
  return json.dump(1);
}

void print(const Comparison& comparison, const std::vector<std::string>& suggestions, size_t top) {
  TextTable table({"operator", "type", "SQNR dB", "cosine", "max error", "noise", "added"});
  table.align_right({2, 3, 4, 5, 6});
  const auto add = [&](const LayerError& e) {
    table.add({e.name, e.type, fmt::format("{:.2f}", e.sqnr_db), fmt::format("{:.6f}", e.cosine),
               fmt::format("{:.4g}", e.max_error), fmt::format("{:.3e}", e.noise), fmt::format("{:+.3e}", e.added)});
  };
  for (size_t i = 0; i < comparison.layers.size() && i < top; ++i) add(comparison.layers[i]);
  for (const auto& output : comparison.outputs) add(output);
  std::cout << table.text();
  std::cout << fmt::format("{} samples, {} operators compared, {} without a counterpart\n", comparison.samples,
                           comparison.layers.size(), comparison.unmatched);
  if (!suggestions.empty())
    std::cout << "to leave the worst in float:\n  " << fmt::format("{}", fmt::join(suggestions, " ")) << "\n";
}

void run(const CompareArgs& args) {
  check_outputs({{"--json", args.json, "comparison"}});
  const Model float_model = Model::load(args.float_model);
  const std::string engine = read_extra_file(args.quantized_model, "tsquant_engine");
  c10::optional<EngineGuard> guard;
  if (!engine.empty() && engine != "tsquant") guard.emplace(engine);
  const Model quantized_model = Model::load(args.quantized_model);
  const DataFile data = open_data(args.data);
  c10::optional<Report> report;
  const std::string stored = read_extra_file(args.quantized_model, "tsquant_report.json");
  if (!stored.empty()) report = Report::from_json(stored);
  const auto comparison = compare_models(float_model, quantized_model, data.dataset, args.subset_size,
                                         report ? &*report : nullptr, console_progress());
  const auto suggestions = ignore_options(comparison, args.suggest);
  if (args.json.empty()) {
    print(comparison, suggestions, args.top);
  } else {
    write_text(args.json, "comparison", to_json(comparison, suggestions));
  }
}

}  // namespace

void add_compare(CLI::App& app) {
  auto args = std::make_shared<CompareArgs>();
  auto* command = app.add_subcommand("compare", "Error of a quantized model, operator by operator");
  command->add_option("float", args->float_model, "The float model")->required();
  command->add_option("quantized", args->quantized_model, "The quantized model made from it")->required();
  add_data_options(*command, args->data, 1, true);
  command->add_option("--subset-size", args->subset_size, "Samples (batches) to run; 0: all")->capture_default_str();
  command->add_option("--top", args->top, "Operators to print, those that add the largest error first")
      ->capture_default_str();
  command->add_option("--suggest", args->suggest, "Number of --ignore-name options to print")->capture_default_str();
  add_process_options(*command);
  add_json_option(*command, args->json);
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
