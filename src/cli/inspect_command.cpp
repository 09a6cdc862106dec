#include <fmt/format.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "base/text_table.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/ignore_rules.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/placement.h"
#include "cli/run_program.h"
#include "evaluation/runnable.h"
#include "graph/op_table.h"
#include "io/archive_info.h"
#include "io/output_file.h"
#include "quantizers/dump.h"
#include "tsquant/engine.h"
#include "tsquant/error.h"
#include "tsquant/load_mapped.h"

namespace tsquant::cli {

namespace {

struct InspectArgs {
  std::string model, json, dot, svg;
  bool rules = false;
  DataArgs data;
  ShapeArgs shapes;
  QuantizerArgs quantizer;
};

std::string shape_text(const TensorInfo& info) {
  return info.known ? fmt::format("[{}]", fmt::join(info.shape, ", ")) : "?";
}

std::string dtype_text(const TensorInfo& info) { return info.known ? c10::toString(info.dtype) : "?"; }

/// The decision about each operator by name.
std::unordered_map<std::string, const NodeRecord*> records_of(const Placement& placement) {
  std::unordered_map<std::string, const NodeRecord*> records;
  for (const auto& record : placement.report.nodes) records.emplace(record.name, &record);
  return records;
}

std::string decision(const NodeRecord* record) {
  if (!record) return "";
  if (record->quantized || record->code == "fused") return record->code;
  return record->code == "passes_codes" ? "moves codes" : "float: " + record->code;
}

std::string to_json(const Placement& placement, const std::vector<RuleMatches>& rules) {
  const auto records = records_of(placement);
  nlohmann::ordered_json nodes = nlohmann::ordered_json::array();
  for (const auto& node : placement.view->nodes()) {
    if (node.kind != NodeKind::kOperator) continue;
    nlohmann::ordered_json json{{"name", node.name}, {"fx_name", node.fx_name},
                                {"type", node.type}, {"metatype", node.op->metatype},
                                {"shape", nullptr},  {"dtype", nullptr}};
    if (node.info.known) {
      json["shape"] = node.info.shape;
      json["dtype"] = dtype_text(node.info);
    }
    const auto found = records.find(node.name);
    if (found != records.end()) {
      json["quantized"] = found->second->quantized;
      json["code"] = found->second->code;
      json["reason"] = found->second->reason;
    }
    json["rule"] = rule_that_decides(rules, node.name);
    nodes.push_back(std::move(json));
  }
  nlohmann::ordered_json matches = nlohmann::ordered_json::array();
  for (const auto& rule : rules) matches.push_back({{"rule", rule.rule}, {"matches", rule.nodes}});
  return nlohmann::ordered_json{{"nodes", nodes}, {"rules", matches}}.dump(1);
}

void print_nodes(const Placement& placement) {
  const auto records = records_of(placement);
  TextTable table({"name", "alias", "type", "metatype", "shape", "dtype", "decision", "why"});
  for (const auto& node : placement.view->nodes()) {
    if (node.kind == NodeKind::kOutput) continue;
    if (node.kind != NodeKind::kOperator) {
      const std::string kind = node.kind == NodeKind::kInput ? "input" : "parameter";
      table.add({node.name, "", kind, "", shape_text(node.info), dtype_text(node.info), "", ""});
      continue;
    }
    const auto found = records.find(node.name);
    const NodeRecord* record = found == records.end() ? nullptr : found->second;
    table.add({node.name, node.fx_name, node.type, node.op->metatype, shape_text(node.info), dtype_text(node.info),
               decision(record), record && !record->quantized ? record->reason : ""});
  }
  std::cout << table.text();
}

void print_rules(const Placement& placement, const std::vector<RuleMatches>& rules) {
  TextTable matches({"rule", "matches"});
  matches.align_right({1});
  for (const auto& rule : rules) matches.add({rule.rule, std::to_string(rule.nodes.size())});
  if (!rules.empty()) std::cout << matches.text() << "\n";
  TextTable table({"name", "decision", "decided by"});
  for (const auto& record : placement.report.nodes) {
    const std::string rule = rule_that_decides(rules, record.name);
    table.add({record.name, decision(&record), rule.empty() ? record.reason : rule});
  }
  std::cout << table.text();
}

/// A quantized file: the operators that run, counted.
void print_kernels(const Model& model) {
  std::map<std::string, int64_t> counts;
  const GraphView view(model);
  for (const auto& node : view.nodes()) {
    if (node.kind == NodeKind::kOperator && node.node) ++counts[node.node->kind().toQualString()];
  }
  TextTable table({"operator in the file", "count"});
  table.align_right({1});
  for (const auto& [kind, count] : counts) table.add({kind, std::to_string(count)});
  std::cout << table.text();
}

void inspect_quantized(const InspectArgs& args, const Model& model, const std::string& report) {
  if (report.empty()) {
    print_kernels(model);
    return;
  }
  const Report stored = Report::from_json(report);
  if (!args.json.empty()) {
    write_text(args.json, "report", stored.to_json());
    return;
  }
  TextTable table({"name", "alias", "type", "decision", "kernel", "why"});
  for (const auto& node : stored.nodes) {
    table.add({node.name, node.fx_name, node.type, decision(&node), node.kernel, node.quantized ? "" : node.reason});
  }
  std::cout << table.text() << "\n";
  print_kernels(model);
}

/// @throws Error kIo when Graphviz is not installed or fails
void write_svg(const std::string& path, const Placement& placement) {
  // Never committed: the program only reads it.
  OutputFile graph(path, "graph"), drawing(path, "drawing");
  graph.write(dump_dot(*placement.view, &placement.annotations));
  graph.require_written();
  if (run_program({"dot", "-Tsvg", "-o", drawing.staged_path(), graph.staged_path()}) != 0) {
    stop_if_interrupted();
    throw Error(ErrorCode::kIo, "Graphviz did not draw the graph", path, "install graphviz, or use --dot");
  }
  drawing.commit();
}

void run(const InspectArgs& args) {
  check_outputs({{"--json", args.json, "operators"}, {"--dot", args.dot, "graph"}, {"--svg", args.svg, "drawing"}});
  const std::string engine = read_extra_file(args.model, "tsquant_engine");
  c10::optional<EngineGuard> guard;
  if (!engine.empty() && engine != "tsquant") guard.emplace(engine);
  const std::string report = read_extra_file(args.model, "tsquant_report.json");
  {
    const Model model = load_mapped(args.model);
    if (!report.empty() || has_quantized_operators(model.module())) return inspect_quantized(args, model, report);
  }
  c10::optional<Sample> sample;
  if (args.shapes.given()) {
    sample = make_sample(args.shapes);
  } else if (!args.data.path.empty()) {
    sample = open_data(args.data).dataset.get(0);
  } else {
    log_line("shapes are unknown: give --input-shape or --data");
  }
  const Placement placement = place(args.model, args.quantizer, sample ? &*sample : nullptr);
  const auto rules = match_rules(*placement.view, args.quantizer.openvino.ignored_scope);
  if (!args.dot.empty()) write_text(args.dot, "graph", dump_dot(*placement.view, &placement.annotations));
  if (!args.svg.empty()) write_svg(args.svg, placement);
  if (!args.json.empty()) {
    write_text(args.json, "operators", to_json(placement, rules));
  } else if (args.rules) {
    print_rules(placement, rules);
  } else if (args.dot.empty() && args.svg.empty()) {
    print_nodes(placement);
  }
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto args = std::make_shared<InspectArgs>();
  auto* command = app.add_subcommand("inspect", "List the operators of a model and what would be quantized");
  command->add_option("model", args->model, "TorchScript file; of a quantized one the kernels are shown")->required();
  add_shape_options(*command, args->shapes);
  add_data_options(*command, args->data, 1, false);
  add_quantizer_options(*command, args->quantizer);
  command->add_flag("--rules", args->rules, "Print which rule decided about each operator");
  command->add_option("--dot", args->dot, "Write the graph as Graphviz text to this file, or to stdout for -");
  command->add_option("--svg", args->svg, "Draw the graph with Graphviz's program dot");
  add_process_options(*command);
  add_json_option(*command, args->json);
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
