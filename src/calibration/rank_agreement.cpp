#include "calibration/rank_agreement.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "tsquant/distributed.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using nlohmann::json;

at::Tensor bytes_of(const std::string& text) {
  auto bytes = at::empty({static_cast<int64_t>(text.size())}, at::kByte);
  std::copy(text.begin(), text.end(), static_cast<char*>(bytes.data_ptr()));
  return bytes;
}

std::string text_of(const at::Tensor& bytes) {
  const auto dense = bytes.contiguous();
  return {static_cast<const char*>(dense.data_ptr()), static_cast<size_t>(dense.numel())};
}

std::string error_text(const std::exception_ptr& failure) {
  if (!failure) return "";
  // Messages may quote bytes of damaged files, which are no UTF-8.
  const auto dump = [](const json& record) { return record.dump(-1, ' ', false, json::error_handler_t::replace); };
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    return dump({static_cast<int>(error.code()), error.message(), error.place(), error.advice()});
  } catch (const std::exception& error) {
    return dump({static_cast<int>(ErrorCode::kInternal), error.what(), "", ""});
  }
}

}  // namespace

std::vector<std::string> gather_texts(StatisticsExchange* exchange, const std::string& mine) {
  if (!exchange) return {mine};
  std::vector<std::string> texts;
  for (const auto& tensors : exchange->all_gather({bytes_of(mine)})) texts.push_back(text_of(tensors.at(0)));
  return texts;
}

void throw_together(StatisticsExchange* exchange, const std::exception_ptr& mine) {
  if (!exchange) {
    if (mine) std::rethrow_exception(mine);
    return;
  }
  for (const auto& text : gather_texts(exchange, error_text(mine))) {
    if (text.empty()) continue;
    const json record = json::parse(text);
    throw Error(static_cast<ErrorCode>(record[0].get<int>()), record[1], record[2], record[3]);
  }
}

void require_equal_ranks(StatisticsExchange& exchange, const std::map<std::string, std::string>& keys) {
  std::vector<std::map<std::string, std::string>> all;
  for (const auto& text : gather_texts(&exchange, json(keys).dump())) {
    all.push_back(json::parse(text).get<std::map<std::string, std::string>>());
  }
  for (size_t rank = 1; rank < all.size(); ++rank) {
    require_equal_keys(all[rank], all[0], fmt::format("rank {} and rank 0", rank), "calibration across processes");
  }
}

void require_equal_keys(const std::map<std::string, std::string>& theirs,
                        const std::map<std::string, std::string>& ours, const std::string& whose,
                        const std::string& place) {
  // Another model has other points too, so the causes come first.
  std::vector<std::string> names{"collection", "model", "data"};
  for (const auto& keys : {ours, theirs}) {
    for (const auto& [name, value] : keys) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  const std::string prefix = kSettingPrefix;
  std::vector<std::string> differences, settings;
  bool digests_differ = false;
  for (const auto& name : names) {
    const auto a = theirs.find(name), b = ours.find(name);
    const std::string their = a == theirs.end() ? "none" : a->second, our = b == ours.end() ? "none" : b->second;
    if (their == our) continue;
    const bool is_setting = name.rfind(prefix, 0) == 0;
    digests_differ = digests_differ || name == "model" || name == "points" || name == "extra_statistics";
    if (name != "points" && name != "extra_statistics") {
      (is_setting ? settings : differences)
          .push_back(fmt::format("{} is \"{}\" instead of \"{}\"", is_setting ? name.substr(prefix.size()) : name,
                                 their, our));
    }
  }
  if (differences.empty() && !digests_differ) return;
  if (digests_differ) differences.insert(differences.end(), settings.begin(), settings.end());
  if (differences.empty()) differences.emplace_back("the quantizers and algorithms observe other tensors");
  throw Error(ErrorCode::kCalibration, fmt::format("{} differ: {}", whose, fmt::join(differences, "; ")), place,
              "use the same model, data and settings, or collect the statistics again");
}

}  // namespace tsquant
