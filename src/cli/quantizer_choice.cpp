#include "cli/quantizer_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "cli/option_flags.h"
#include "options/tables.h"
#include "quantizers/registry.h"
#include "tsquant/error.h"
#include "tsquant/fx/fx_quantizer.h"
#include "tsquant/load_quantizer.h"

namespace tsquant::cli {

namespace {

/// The other quantizers have few of the options of OpenVINOQuantizer.
void refuse_others(const QuantizerArgs& args, const std::vector<std::string>& has) {
  std::vector<std::string> allowed{"--quantizer", "--skip-pass"};
  if (args.quantizer == "fx") allowed.emplace_back("--qconfig");
  for_each_flag(fields<OpenVINOQuantizerOptions>(), [&](const auto& row) {
    if (std::count(has.begin(), has.end(), row.name) + std::count(has.begin(), has.end(), "*") > 0) {
      allowed.push_back(first_name(row.flag));
    }
  });
  for (const auto& option : args.given ? args.given() : std::vector<std::string>{}) {
    if (std::find(allowed.begin(), allowed.end(), option) != allowed.end()) continue;
    throw Error(ErrorCode::kInvalidArgument, fmt::format("--quantizer {} does not have this option", args.quantizer),
                option, "leave it out, or use --quantizer openvino");
  }
}

/// Names of engines look like no paths.
bool is_path(const std::string& text) {
  const std::filesystem::path path(text);
  std::error_code ignored;
  return path.has_parent_path() || path.has_extension() || std::filesystem::exists(path, ignored);
}

std::unique_ptr<Quantizer> make_fx(const std::string& qconfig) {
  if (!is_path(qconfig)) return std::make_unique<fx::FxQuantizer>(fx::get_default_qconfig_mapping(qconfig));
  std::ifstream file(qconfig);
  std::error_code ignored;
  if (!file || std::filesystem::is_directory(qconfig, ignored)) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("the file {} cannot be read", qconfig), "--qconfig",
                "check the path, or name an engine such as x86");
  }
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return std::make_unique<fx::FxQuantizer>(fx::QConfigMapping::from_json(text));
}

bool is_library(const std::string& text) {
  return text.find('/') != std::string::npos || text.find(".so") != std::string::npos;
}

}  // namespace

std::unique_ptr<Quantizer> make_quantizer(const QuantizerArgs& args) {
  std::vector<std::string> names;
  for (const auto& row : named_quantizers()) {
    names.push_back(row.name);
    if (row.name != args.quantizer) continue;
    refuse_others(args, row.options);
    if (!args.qconfig.empty() && args.quantizer == "fx") return make_fx(args.qconfig);
    return row.make(args.openvino);
  }
  if (!is_library(args.quantizer)) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("there is no quantizer \"{}\"", args.quantizer), "--quantizer",
                fmt::format("use {}, or the path of a shared library", fmt::join(names, ", ")));
  }
  refuse_others(args, {});
  return load_quantizer(args.quantizer);
}

}  // namespace tsquant::cli
