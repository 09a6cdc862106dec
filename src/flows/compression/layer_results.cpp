#include "flows/compression/layer_results.h"

#include <fmt/format.h>

#include <filesystem>

#include "calibration/fingerprint.h"
#include "io/output_file.h"
#include "options/tables.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

namespace fs = std::filesystem;

constexpr const char* kSuffix = ".result";

/// Enough of a digest to tell files of one folder apart; the whole one is in the file.
std::string short_digest(const std::string& digest) { return digest.substr(0, 16); }

std::string digest_of(const std::string& text) {
  Digest digest;
  digest.add(text);
  return digest.text();
}

bool is_result(const fs::path& path) { return path.extension() == kSuffix; }

/// Calls visit(path) for every file of a folder, which may remove it.
template <typename Visit>
void for_each_file(const std::string& folder, const Visit& visit) {
  std::error_code error;
  std::vector<fs::path> found;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    found.push_back(entry->path());
  }
  for (const auto& path : found) visit(path);
}

}  // namespace

LayerResults::LayerResults(std::string folder, std::string run)
    : folder_(std::move(folder)), run_(std::move(run)), writes_(true) {
  int64_t others = 0;
  for_each_file(folder_, [&](const fs::path& path) {
    others += is_result(path) && path.filename().string().rfind(short_digest(run_), 0) != 0 ? 1 : 0;
  });
  if (others == 0) return;
  notes_.push_back(fmt::format("{} results in {} are of another model, other data or options: they are left aside",
                               others, folder_));
}

std::string LayerResults::path_of(const std::string& step, const std::string& layer) const {
  const std::string name = fmt::format("{}-{}-{}{}", short_digest(run_), step, short_digest(digest_of(layer)), kSuffix);
  return (fs::path(folder_) / name).string();
}

c10::optional<LayerResult> LayerResults::find(const std::string& step, const std::string& layer) {
  if (folder_.empty()) return c10::nullopt;
  const std::string path = path_of(step, layer);
  std::error_code error;
  if (!fs::exists(path, error)) return c10::nullopt;
  try {
    LayerResult result = read_result(path, {run_, step, layer});
    if (!layer.empty()) reused_.insert(layer);
    return result;
  } catch (const Error& fault) {
    notes_.push_back(
        fmt::format("{}: {}; {} is done anew", path, fault.message(), layer.empty() ? "what it held" : layer));
    return c10::nullopt;
  }
}

void LayerResults::keep(const std::string& step, const std::string& layer, const LayerResult& result) {
  if (!writes_) return;
  std::error_code error;
  fs::create_directories(folder_, error);  // what goes wrong shows when the file is written
  try {
    write_result(path_of(step, layer), {run_, step, layer}, result);
  } catch (const Error& fault) {
    writes_ = false;
    notes_.push_back(fmt::format("results of layers are not kept any more: {}", fault.what()));
    fs::remove(folder_, error);  // unless there are some
  }
}

LayerResult LayerResults::obtain(const std::string& step, const std::string& layer,
                                 const std::function<LayerResult()>& make) {
  if (auto found = find(step, layer)) return std::move(*found);
  LayerResult made = make();
  keep(step, layer, made);
  return made;
}

ReusedResults LayerResults::reused() const { return {static_cast<int64_t>(reused_.size()), notes_}; }

std::string run_digest(const Model& model, const Annotations& annotations, const CompressPt2eOptions& options) {
  // Of no influence on codes, scales and errors.
  static const std::set<std::string> kOther{"form", "dry_run", "dump_dir", "resume_dir",
                                            "advanced_parameters.statistics_path"};
  Digest digest;
  digest.add(std::string(TSQUANT_VERSION));
  digest.add(fingerprint(model));
  digest.add(weights_fingerprint(annotations));
  for_each_leaf(fields<CompressPt2eOptions>(), [&](const auto& row) {
    if (kOther.count(row.name) > 0) return;
    digest.add(row.name);
    digest.add(row.get(options).dump());
  });
  if (options.dataset) {
    const int64_t samples = options.dataset->count(options.subset_size);
    for (int64_t i = 0; i < samples; ++i) digest.add(fingerprint(options.dataset->get(i)));
  }
  return digest.text();
}

void remove_layer_results(const std::string& folder) {
  std::error_code error;
  for_each_file(folder, [&](const fs::path& path) {
    if (is_result(path) || is_staged_file(path.filename().string())) fs::remove(path, error);
  });
  fs::remove(folder, error);  // stays when something else is in it
}

}  // namespace tsquant
