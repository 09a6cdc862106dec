#include "calibration/statistics_file.h"

#include <fmt/format.h>
#include <torch/script.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/input_path.h"
#include "io/write_module.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using nlohmann::json;

constexpr const char* kFormat = "tsquant statistics";
constexpr int kVersion = 1;
constexpr const char* kText = "statistics.json";

[[noreturn]] void fail(const std::string& path, const std::string& message) {
  throw Error(ErrorCode::kCalibration, message, path, "collect the statistics again");
}

json collection_json(const CollectedStatistics& collection, torch::jit::Module& module, size_t& tensors) {
  json observers = json::array();
  for (const auto& [name, state] : collection.observers) {
    json names = json::array();
    for (const auto& tensor : state) {
      const auto buffer = fmt::format("t{}", tensors++);
      module.register_buffer(buffer, tensor.contiguous());
      names.push_back(buffer);
    }
    observers.push_back({{"name", name}, {"tensors", names}});
  }
  return {{"keys", collection.keys}, {"observers", observers}};
}

CollectedStatistics collection_of(const json& record, const torch::jit::Module& module) {
  CollectedStatistics result;
  result.keys = record.at("keys").get<std::map<std::string, std::string>>();
  for (const auto& observer : record.at("observers")) {
    std::vector<at::Tensor> state;
    for (const auto& name : observer.at("tensors")) state.push_back(module.attr(name.get<std::string>()).toTensor());
    result.observers.emplace_back(observer.at("name").get<std::string>(), std::move(state));
  }
  return result;
}

}  // namespace

void write_statistics(const std::string& path, const std::vector<CollectedStatistics>& collections) {
  torch::jit::Module module("tsquant_statistics");
  json records = json::array();
  size_t tensors = 0;
  for (const auto& collection : collections) records.push_back(collection_json(collection, module, tensors));
  const json text{{"format", kFormat}, {"version", kVersion}, {"tsquant", TSQUANT_VERSION}, {"collections", records}};
  save_module(path, "statistics", module, {{kText, text.dump(1)}});
}

std::vector<CollectedStatistics> read_statistics(const std::string& path) {
  std::error_code unreadable;  // require_readable says why
  if (!std::filesystem::exists(path, unreadable) && !unreadable) fail(path, "the statistics file does not exist");
  require_readable(path, ErrorCode::kCalibration);
  torch::jit::ExtraFilesMap extra{{kText, ""}};
  torch::jit::Module module;
  try {
    module = torch::jit::load(path, c10::kCPU, extra);
  } catch (const std::exception& error) {
    fail(path, "the statistics file is damaged or no archive");
  }
  const json text = json::parse(extra[kText], nullptr, /*allow_exceptions=*/false);
  if (text.is_discarded() || !text.is_object() || text.value("format", "") != kFormat) {
    fail(path, "this archive holds no statistics");
  }
  if (text.value("version", 0) != kVersion) {
    fail(path, fmt::format("the statistics file has version {}, this program reads version {}",
                           text.value("version", 0), kVersion));
  }
  std::vector<CollectedStatistics> collections;
  try {
    for (const auto& record : text.at("collections")) collections.push_back(collection_of(record, module));
  } catch (const std::exception&) {
    fail(path, "the statistics file is damaged: its tensors do not fit its table");
  }
  return collections;
}

}  // namespace tsquant
