#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/text_table.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/option_flags.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "flows/compression/compression_config.h"
#include "options/check_fields.h"
#include "options/option_text.h"
#include "options/tables.h"
#include "tsquant/compress_weights.h"
#include "tsquant/error.h"
#include "tsquant/fx/qconfig_mapping.h"
#include "tsquant/nncf_config.h"

namespace tsquant::cli {

namespace {

using nlohmann::ordered_json;

struct OptionsArgs {
  std::string config, qconfig, json;
  bool qat = false;
};

/// "true or false", "0 or more", "performance, mixed", "text".
template <typename Struct>
std::string values_of(const Field<Struct>& row) {
  if (!limits_text(row.schema).empty()) return limits_text(row.schema);
  if (row.schema.contains("enum")) return text_of(row.schema.at("enum"));
  if (!row.schema.at("type").is_string()) return text_of(ordered_json(all_words(range_estimator_words()))) + ", {...}";
  const auto type = row.schema.at("type").template get<std::string>();
  return type == "boolean" ? "true, false" : type == "array" ? "list" : type == "string" ? "text" : "number";
}

template <typename Struct>
void describe(const Fields<Struct>& rows, const std::string& of, ordered_json& list) {
  for (const auto& row : rows) {
    if (!row.parts.empty() && row.schema.at("type") == "object") {
      describe(row.parts, of, list);
      continue;
    }
    Flag flag = row.flag;
    list.push_back({{"of", of},
                    {"name", row.name},
                    {"flag", first_name(flag)},
                    {"values", values_of(row)},
                    {"default", text_of(row.default_value)},
                    {"help", flag.help.empty() ? row.help : flag.help}});
  }
}

ordered_json all_options() {
  ordered_json list = ordered_json::array();
  describe(fields<QuantizePt2eOptions>(), "QuantizePt2eOptions", list);
  describe(fields<OpenVINOQuantizerOptions>(), "OpenVINOQuantizerOptions", list);
  describe(fields<AccuracyControlOptions>(), "AccuracyControlOptions", list);
  describe(fields<QuantizeOptions>(), "QuantizeOptions", list);
  describe(fields<CompressWeightsOptions>(), "CompressWeightsOptions", list);
  describe(fields<CompressPt2eOptions>(), "CompressPt2eOptions", list);
  return list;
}

void print(const ordered_json& list) {
  std::string of;
  TextTable table({"option", "flag", "values", "default"});
  const auto flush = [&] {
    if (!of.empty()) std::cout << of << "\n" << table.text() << "\n";
    table = TextTable({"option", "flag", "values", "default"});
  };
  for (const auto& entry : list) {
    if (entry.at("of") != of) flush();
    of = entry.at("of");
    table.add({entry.at("name"), entry.at("flag"), entry.at("values"), entry.at("default")});
  }
  flush();
}

/// What a configuration file sets, by the names of `options`.
template <typename Struct>
void describe_values(const Struct& object, ordered_json& values) {
  for_each_leaf(fields<Struct>(), [&](const Field<Struct>& row) {
    const nlohmann::json value = row.get(object);
    if (value != row.default_value) values[row.name] = text_of(value);
  });
}

ordered_json compression_values_in(const std::string& path) {
  ordered_json values = ordered_json::object();
  describe_values(read_compress_options(path), values);
  return {{"algorithms", {"compress_weights"}}, {"values", values}, {"warnings", ordered_json::array()}};
}

ordered_json values_in(const std::string& path) {
  if (is_compression_config(path)) return compression_values_in(path);
  const auto config = NNCFConfig::from_json(path);
  const auto algorithms = config.algorithms();
  ordered_json values = ordered_json::object();
  // Sections of other algorithms alone are valid, but there is nothing to list.
  const auto quantizes = [](const std::string& name) {
    return name == "quantization" || name == "experimental_quantization";
  };
  if (std::any_of(algorithms.begin(), algorithms.end(), quantizes)) describe_values(config.quantize_options(), values);
  if (!config.get({"weight_compression"}).isNone()) describe_values(config.compress_weights_options(), values);
  if (const auto control = config.accuracy_control_options()) describe_values(*control, values);
  return {{"algorithms", algorithms}, {"values", values}, {"warnings", config.warnings()}};
}

void print_values(const ordered_json& config) {
  std::cout << "algorithms: " << text_of(config.at("algorithms")) << "\n";
  TextTable table({"option", "value"});
  for (const auto& [name, value] : config.at("values").items()) table.add({name, value});
  std::cout << table.text();
  for (const auto& warning : config.at("warnings")) std::cout << "warning: " << warning.get<std::string>() << "\n";
}

void print_mapping(const std::string& engine, bool qat, const std::string& path) {
  const auto make = qat ? fx::get_default_qat_qconfig_mapping : fx::get_default_qconfig_mapping;
  const std::string text = make(engine, qat ? 1 : 0).to_json();
  if (!path.empty()) return write_text(path, "QConfigMapping", text);
  std::cout << text << std::endl;
}

void run(const OptionsArgs& args) {
  check_outputs({{"--json", args.json, "options"}});
  if (args.qat && args.qconfig.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "it belongs to --qconfig", "--qat", "add --qconfig, or leave it out");
  }
  if (!args.qconfig.empty()) return print_mapping(args.qconfig, args.qat, args.json);
  const auto list = args.config.empty() ? all_options() : values_in(args.config);
  if (!args.json.empty()) return write_text(args.json, "options", list.dump(1));
  args.config.empty() ? print(list) : print_values(list);
}

}  // namespace

void add_options(CLI::App& app) {
  auto args = std::make_shared<OptionsArgs>();
  auto* command = app.add_subcommand("options",
                                     "List every option of quantizing and compressing: its name in C++ and in "
                                     "configurations, its flag, values, default");
  auto* config = command
                     ->add_option("--config", args->config,
                                  "Check this configuration of quantize or compress, and list what it sets instead")
                     ->check(CLI::ExistingFile);
  command
      ->add_option("--qconfig", args->qconfig,
                   "Print the default QConfigMapping of x86, fbgemm, onednn or qnnpack instead: what --qconfig of "
                   "quantize and prepare reads from a file")
      ->excludes(config);
  command->add_flag("--qat", args->qat, "The mapping for training");
  add_json_option(*command, args->json);
  command->callback([args] { run(*args); });
}

}  // namespace tsquant::cli
