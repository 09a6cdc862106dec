#include "cli/rank_options.h"

#include <fmt/format.h>

#include "tsquant/error.h"

namespace tsquant::cli {

void add_rank_options(CLI::App& app, RankArgs& args) {
  constexpr const char* kGroup = "Several processes";
  auto* store = app.add_option("--store", args.store,
                               "New file that all processes see, on which they meet; removed files may be used again")
                    ->group(kGroup);
  auto* ranks = app.add_option("--ranks", args.ranks, "How many processes work together, each with the same options")
                    ->check(CLI::PositiveNumber)
                    ->group(kGroup);
  auto* rank = app.add_option("--rank", args.rank, "The number of this one, from 0; only 0 must have an output")
                   ->check(CLI::NonNegativeNumber)
                   ->group(kGroup);
  store->needs(ranks, rank);
  ranks->needs(store, rank);
  rank->needs(store, ranks);
  app.add_option("--rank-timeout", args.timeout, "Seconds after which a process that does not answer is an error")
      ->check(CLI::PositiveNumber)
      ->needs(store)
      ->capture_default_str()
      ->group(kGroup);
}

std::shared_ptr<StatisticsExchange> meet_ranks(const RankArgs& args) {
  if (args.rank >= args.ranks) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("rank {} of {}", args.rank, args.ranks), "--rank",
                fmt::format("number the processes from 0 to {}", args.ranks - 1));
  }
  return args.ranks > 1 ? make_gloo_exchange(args.store, args.rank, args.ranks, args.timeout) : nullptr;
}

}  // namespace tsquant::cli
