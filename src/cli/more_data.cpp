#include "cli/more_data.h"

#include <algorithm>
#include <filesystem>
#include <utility>

namespace tsquant::cli {

namespace {

DataArgs arguments_of(const std::string& text, DataArgs args) {
  args.path = text;
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || std::filesystem::exists(text)) return args;
  args.path = text.substr(0, colon);
  args.scalars = CLI::detail::split(text.substr(colon + 1), ',');
  return args;
}

/// Samples taken from each file: one in turn until there are enough or no more.
std::vector<int64_t> shares(const std::vector<Dataset>& parts, int64_t subset_size) {
  std::vector<int64_t> taken(parts.size(), 0);
  bool grew = true;
  for (int64_t left = subset_size; left > 0 && grew;) {
    grew = false;
    for (size_t i = 0; i < parts.size() && left > 0; ++i) {
      if (taken[i] == parts[i].length()) continue;
      ++taken[i];
      --left;
      grew = true;
    }
  }
  return taken;
}

}  // namespace

void add_more_data_option(CLI::App& app, std::vector<std::string>& files) {
  app.add_option("--more-data", files,
                 "FILE[:VALUE,...]: calibrate with this file too, with its own values of --scalar; repeat it")
      ->allow_extra_args(false)
      ->group("Data");
}

Dataset with_more_data(const Dataset& first, const DataArgs& args, const std::vector<std::string>& files,
                       int64_t subset_size) {
  if (files.empty()) return first;
  std::vector<Dataset> parts{first};
  for (const auto& file : files) parts.push_back(open_data(arguments_of(file, args)).dataset);
  const auto taken = shares(parts, subset_size);
  std::vector<std::pair<size_t, int64_t>> order;  // part, sample
  for (const bool within : {true, false}) {
    for (size_t i = 0; i < parts.size(); ++i) {
      const int64_t end = within ? taken[i] : parts[i].length();
      for (int64_t sample = within ? 0 : taken[i]; sample < end; ++sample) order.emplace_back(i, sample);
    }
  }
  const auto length = static_cast<int64_t>(order.size());
  const auto get = [parts, order = std::move(order)](int64_t index) {
    const auto& [part, sample] = order.at(static_cast<size_t>(index));
    return parts[part].get(sample);
  };
  return Dataset(length, get, first.batch_size());
}

}  // namespace tsquant::cli
