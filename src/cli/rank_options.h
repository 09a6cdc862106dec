#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "tsquant/distributed.h"

namespace tsquant::cli {

/// One of several processes that work together.
struct RankArgs {
  std::string store;
  int64_t rank = 0, ranks = 1;
  double timeout = 300;
};

/// `--store`, `--rank`, `--ranks`, `--rank-timeout`.
void add_rank_options(CLI::App& app, RankArgs& args);

/// Meets the other processes; null for a process alone.
std::shared_ptr<StatisticsExchange> meet_ranks(const RankArgs& args);

}  // namespace tsquant::cli
