#include <fmt/format.h>

#include <iostream>

#include "base/text_table.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/placement.h"
#include "quantizers/spec_text.h"

namespace tsquant::cli {

namespace {

struct AnnotateArgs {
  std::string model, json, form = "setup";
  DataArgs data;
  ShapeArgs shapes;
  QuantizerArgs quantizer;
};

void print(const Placement& placement) {
  std::unordered_map<int64_t, std::string> groups;
  for (size_t i = 0; i < placement.annotations.unified_scale_groups.size(); ++i) {
    for (const int64_t id : placement.annotations.unified_scale_groups[i]) groups[id] = std::to_string(i);
  }
  TextTable table({"id", "kind", "place", "port", "quantizer", "group", "why"});
  for (const auto& point : placement.annotations.points) {
    table.add({std::to_string(point.id), point.kind == PointKind::kWeight ? "weight" : "activation", point.node,
               point.input_port ? std::to_string(*point.input_port) : "after", spec_text(point.spec), groups[point.id],
               point.reason});
  }
  std::cout << table.text();
  TextTable refusals({"no quantizer", "code", "why"});
  for (const auto& refusal : placement.annotations.refusals) {
    refusals.add({refusal.node, refusal.code, refusal.reason});
  }
  if (!placement.annotations.refusals.empty()) std::cout << "\n" << refusals.text();
}

void run(const AnnotateArgs& args) {
  check_outputs({{"--json", args.json, "annotations"}});
  c10::optional<Sample> sample;
  if (args.shapes.given()) {
    sample = make_sample(args.shapes);
  } else if (!args.data.path.empty()) {
    sample = open_data(args.data).dataset.get(0);
  }
  const Placement placement = place(args.model, args.quantizer, sample ? &*sample : nullptr);
  if (args.json.empty()) {
    print(placement);
  } else {
    const auto json = args.form == "pt2e" ? pt2e_json : to_json;
    write_text(args.json, "annotations", json(placement.annotations, *placement.view));
  }
}

}  // namespace

void add_annotate(CLI::App& app) {
  auto args = std::make_shared<AnnotateArgs>();
  auto* command = app.add_subcommand("annotate", "Show where quantizers would be placed, without calibrating");
  command->add_option("model", args->model, "TorchScript file")->required();
  add_shape_options(*command, args->shapes);
  add_data_options(*command, args->data, 1, false);
  add_quantizer_options(*command, args->quantizer);
  add_process_options(*command);
  add_json_option(*command, args->json);
  command->add_option("--form", args->form, "JSON: edges and quantizers, or PT2E annotations by node")
      ->check(CLI::IsMember({"setup", "pt2e"}))
      ->capture_default_str();
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
