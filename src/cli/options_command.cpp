#include <iostream>
#include <nlohmann/json.hpp>

#include "base/text_table.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/option_flags.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "options/check_fields.h"
#include "options/option_text.h"
#include "options/tables.h"

namespace tsquant::cli {

namespace {

using nlohmann::ordered_json;

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

}  // namespace

void add_options(CLI::App& app) {
  auto path = std::make_shared<std::string>();
  auto* command = app.add_subcommand(
      "options", "List every option of quantizing: its name in C++ and in configurations, its flag, values, default");
  add_json_option(*command, *path);
  command->callback([path] {
    check_outputs({{"--json", *path, "options"}});
    const auto list = all_options();
    if (path->empty()) {
      print(list);
    } else {
      write_text(*path, "options", list.dump(1));
    }
  });
}

}  // namespace tsquant::cli
