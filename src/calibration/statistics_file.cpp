#include "calibration/statistics_file.h"

#include <fmt/format.h>
#include <torch/script.h>

#include <filesystem>

#include "io/json_text.h"
#include "io/torch_archive.h"
#include "io/write_module.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using nlohmann::json;

constexpr const char* kFormat = "tsquant statistics";
constexpr int kVersion = 1;
constexpr const char* kText = "statistics.json";
constexpr const char* kAdvice = "collect the statistics again";

[[noreturn]] void fail(const std::string& path, const std::string& message) {
  throw Error(ErrorCode::kCalibration, message, path, kAdvice);
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

/// Observers read the tensors by their data.
at::Tensor saved_tensor(const torch::jit::Module& module, const std::string& name) {
  const at::Tensor tensor = module.attr(name).toTensor().detach();
  const auto type = tensor.scalar_type();
  const bool plain =
      tensor.layout() == at::kStrided && (type == at::kFloat || type == at::kDouble || type == at::kLong);
  if (!plain) throw std::runtime_error("no dense tensor of float, double or int64");
  return tensor.contiguous();
}

CollectedStatistics collection_of(const json& record, const torch::jit::Module& module) {
  CollectedStatistics result;
  result.keys = record.at("keys").get<std::map<std::string, std::string>>();
  for (const auto& observer : record.at("observers")) {
    std::vector<at::Tensor> state;
    for (const auto& name : observer.at("tensors")) state.push_back(saved_tensor(module, name.get<std::string>()));
    result.observers.emplace_back(observer.at("name").get<std::string>(), std::move(state));
  }
  return result;
}

/// The table of a file: an object of this format and version.
json table_of(const std::string& text, const std::string& path) {
  json table;
  try {
    table = parse_json<json>(text);
  } catch (const JsonFault&) {
    fail(path, "the statistics file is damaged: its table is no JSON");
  }
  if (!table.is_object() || table.value("format", json()) != kFormat) fail(path, "this archive holds no statistics");
  const json version = table.value("version", json());
  if (!version.is_number_integer()) fail(path, "the statistics file is damaged: its version is no number");
  if (version != kVersion) {
    fail(path,
         fmt::format("the statistics file has version {}, this program reads version {}", version.dump(), kVersion));
  }
  return table;
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
  std::error_code error;
  if (!std::filesystem::exists(path, error)) fail(path, "the statistics file does not exist");
  TorchArchive archive(path, {ErrorCode::kCalibration, "the statistics file", kAdvice});
  const std::string record = std::string("extra/") + kText;
  if (!archive.has(record)) fail(path, "this archive holds no statistics");
  const json table = table_of(archive.read(record), path);
  const auto module = archive.load_module();
  std::vector<CollectedStatistics> collections;
  try {
    for (const auto& entry : table.at("collections")) collections.push_back(collection_of(entry, module));
  } catch (const std::exception&) {
    fail(path, "the statistics file is damaged: its tensors do not fit its table");
  }
  return collections;
}

}  // namespace tsquant
