#include "calibration/statistics_cache.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <filesystem>

#include "calibration/fingerprint.h"
#include "calibration/rank_agreement.h"
#include "io/output_target.h"
#include "tsquant/distributed.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using Keys = std::map<std::string, std::string>;

/// Settings only explain differences of other keys, so they do not decide which file it is.
std::string file_name(const Keys& keys) {
  Digest digest;
  for (const auto& [key, value] : keys) {
    if (key.rfind(kSettingPrefix, 0) == 0) continue;
    digest.add(key);
    digest.add(value);
  }
  return fmt::format("{}-{}.pt", keys.at("collection"), digest.text());
}

/// True when every rank says so.
bool all_agree(StatisticsExchange* exchange, bool mine) {
  if (!exchange) return mine;
  bool all = true;
  for (const auto& tensors : exchange->all_gather({at::full({1}, mine ? 1 : 0, at::kLong)})) {
    all = all && tensors.at(0).item<int64_t>() == 1;
  }
  return all;
}

}  // namespace

StatisticsCache::StatisticsCache(Paths paths, std::shared_ptr<StatisticsExchange> exchange)
    : paths_(std::move(paths)), exchange_(std::move(exchange)) {
  if (!paths_.in.empty() && !paths_.directory.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "statistics are to be read from a file and from a cache folder",
                "statistics_in", "give statistics_in or statistics_path");
  }
  if (paths_.out.empty()) return;
  std::exception_ptr failure;
  try {
    if (writes()) check_output(paths_.out, "statistics");  // before the samples run
  } catch (...) {
    failure = std::current_exception();
  }
  throw_together(exchange_.get(), failure);
}

bool StatisticsCache::writes() const { return !exchange_ || exchange_->rank() == 0; }

const CollectedStatistics* StatisticsCache::find(const Keys& keys) {
  const CollectedStatistics* found = nullptr;
  std::exception_ptr failure;
  try {
    if (!paths_.in.empty()) found = find_in_file(keys);
    if (!paths_.directory.empty()) found = find_in_directory(keys);
  } catch (...) {
    failure = std::current_exception();
  }
  throw_together(exchange_.get(), failure);
  if (!all_agree(exchange_.get(), found != nullptr)) return nullptr;
  if (!paths_.out.empty()) add(*found);
  return found;
}

const CollectedStatistics* StatisticsCache::find_in_file(const Keys& keys) {
  if (!loaded_) {
    auto collections = read_statistics(paths_.in);
    read_.assign(std::make_move_iterator(collections.begin()), std::make_move_iterator(collections.end()));
    loaded_ = true;
  }
  std::vector<std::string> names;
  for (const auto& candidate : read_) {
    const auto name = candidate.keys.find("collection");
    names.push_back(name == candidate.keys.end() ? "" : name->second);
    if (names.back() != keys.at("collection")) continue;
    require_equal_keys(candidate.keys, keys, "the statistics and this run", paths_.in);
    return &candidate;
  }
  throw Error(ErrorCode::kCalibration,
              fmt::format("the file holds no statistics of the collection \"{}\", only of: {}", keys.at("collection"),
                          fmt::join(names, ", ")),
              paths_.in, "collect statistics with the same options as this run");
}

const CollectedStatistics* StatisticsCache::find_in_directory(const Keys& keys) {
  const auto path = std::filesystem::path(paths_.directory) / file_name(keys);
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    if (error) {
      throw Error(ErrorCode::kCalibration, "the cache folder cannot be read: " + error.message(), paths_.directory,
                  "check the path given as statistics_path");
    }
    if (writes()) check_output_folder(paths_.directory, "statistics");
    return nullptr;
  }
  for (auto& candidate : read_statistics(path.string())) {
    require_equal_keys(candidate.keys, keys, "the statistics and this run", path.string());
    read_.push_back(std::move(candidate));
    return &read_.back();
  }
  return nullptr;
}

void StatisticsCache::add(CollectedStatistics statistics) {
  collected_.push_back(std::move(statistics));
  std::exception_ptr failure;
  try {
    if (writes()) write(collected_.back());
  } catch (...) {
    failure = std::current_exception();
  }
  throw_together(exchange_.get(), failure);
}

void StatisticsCache::write(const CollectedStatistics& latest) const {
  if (!paths_.out.empty()) write_statistics(paths_.out, collected_);
  if (paths_.directory.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(paths_.directory, error);
  if (error) throw Error(ErrorCode::kIo, "the cache folder cannot be made: " + error.message(), paths_.directory);
  write_statistics((std::filesystem::path(paths_.directory) / file_name(latest.keys)).string(), {latest});
}

std::string StatisticsCache::known_data(int64_t samples) const {
  const auto found = data_.find(samples);
  return found == data_.end() ? "" : found->second;
}

void StatisticsCache::remember_data(int64_t samples, std::string key) { data_[samples] = std::move(key); }

}  // namespace tsquant
