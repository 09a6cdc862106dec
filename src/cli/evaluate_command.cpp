#include <fmt/format.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "evaluation/evaluate.h"

namespace tsquant::cli {

namespace {

struct EvaluateArgs {
  std::string model, reference, metric = "top1", json;
  DataArgs data;
};

void run(const EvaluateArgs& args) {
  check_outputs({{"--json", args.json, "result"}});
  const Metric metric = metric_from_string(args.metric);
  Runnable model = load_runnable(args.model);
  c10::optional<Runnable> reference;
  if (!args.reference.empty()) reference = load_runnable(args.reference);
  const DataFile data = open_data(args.data);
  const Evaluation result = evaluate(model, data, metric, reference ? &*reference : nullptr, console_progress());
  if (!args.json.empty()) {
    nlohmann::ordered_json json{{"metric", to_string(result.metric)},
                                {"value", result.value},
                                {"samples", result.samples},
                                {"seconds", result.seconds},
                                {"agreement", nullptr}};
    if (result.agreement) json["agreement"] = *result.agreement;
    if (result.nats) json["nats"] = *result.nats;
    write_text(args.json, "result", json.dump());
    return;
  }
  std::cout << fmt::format("{} {:.4f}{}, {} samples, {:.2f} s\n", to_string(result.metric), result.value,
                           metric == Metric::kPerplexity ? fmt::format(" ({:.5f} nats)", *result.nats) : " %",
                           result.samples, result.seconds);
  if (result.agreement) std::cout << fmt::format("agreement with the reference {:.2f} %\n", *result.agreement);
}

}  // namespace

void add_evaluate(CLI::App& app) {
  auto args = std::make_shared<EvaluateArgs>();
  auto* command = app.add_subcommand("evaluate", "Measure a model on labelled data or on text");
  command->add_option("model", args->model, "TorchScript file, float or quantized")->required();
  command->add_option("--metric", args->metric, "top1, perplexity, or agreement (with --reference; needs no labels)")
      ->capture_default_str();
  command->add_option("--reference", args->reference, "Also count predictions equal to this model's");
  add_data_options(*command, args->data, 32, true);
  add_process_options(*command);
  add_json_option(*command, args->json);
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
