#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "flows/compression/result_file.h"
#include "flows/compression/weight_layers.h"

namespace tsquant {

class StatisticsExchange;

/// The processes that compress one model together (CompressPt2eOptions::exchange), or this one alone.
///
/// Every rank holds the whole model and takes every step. The items of a step that takes long are shared out: each is
/// computed by one rank, which gives its result to the others. All ranks must share the same items in the same order.
class RankGroup {
 public:
  /// @param exchange null: this process alone
  explicit RankGroup(std::shared_ptr<StatisticsExchange> exchange);

  bool alone() const { return exchange_ == nullptr; }
  /// Does what one rank does for all.
  bool is_first() const;
  const std::shared_ptr<StatisticsExchange>& exchange() const { return exchange_; }

  /// Runs the whole of what the ranks do together. What it throws on one rank is thrown on the others when they share
  /// next, so that none waits for a rank that gave up.
  void run(const std::function<void()>& work);
  /// Runs a part that talks through the exchange itself, and whose errors all ranks throw.
  void run_together(const std::function<void()>& work);
  /// @throws Error kCalibration on every rank when texts differ from those of rank 0, naming them
  void require_equal(const std::map<std::string, std::string>& keys);

  using Make = std::function<LayerResult(size_t item)>;
  using Take = std::function<void(size_t item, const LayerResult& result)>;
  /// Calls take(item, make(item)) for all items in order; `make` runs on one rank for each, `take` on all of them.
  /// @param sizes how long each item takes, in any unit, such as the values of a weight
  /// @throws Error that `make` threw on a rank, on every rank
  void share(const std::vector<int64_t>& sizes, const Make& make, const Take& take);

  /// Results that some ranks have, such as those of a run before, on every rank. Of several the lowest rank's.
  void complete(std::vector<c10::optional<LayerResult>>& results);

 private:
  void share_part(const std::vector<int64_t>& sizes, size_t begin, size_t end, const Make& make, const Take& take);
  /// Fills results[i] on every rank with that of owners[i].
  void exchange_results(const std::vector<int64_t>& owners, std::vector<c10::optional<LayerResult>>& results);
  void throw_together(const std::exception_ptr& mine);

  std::shared_ptr<StatisticsExchange> exchange_;
  bool all_know_ = false;  ///< that the group failed
};

/// The rank of each item: the largest first, each to the rank that has least so far.
std::vector<int64_t> owners_of(const std::vector<int64_t>& sizes, int64_t ranks);

/// Calls work(layer), which chooses codes, and then use(layer), for all layers in order. `work` runs on one rank for
/// each layer; the others get the codes, adapters, bias and record that it leaves.
void share_layers(
    RankGroup& ranks, const std::vector<WeightLayer*>& layers, const std::function<void(WeightLayer&)>& work,
    const std::function<void(WeightLayer&)>& use = [](WeightLayer&) {});

}  // namespace tsquant
