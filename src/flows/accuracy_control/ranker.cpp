#include "flows/accuracy_control/ranker.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <thread>

#include "graph/free_graphs.h"
#include "tsquant/error.h"

namespace tsquant {

std::set<int64_t> VariantMaker::removed_points(const QuantizerGroup& group) const {
  std::set<int64_t> removed(group.points.begin(), group.points.end());
  if (restore_mode_ == RestoreMode::kActivationsAndWeights) return removed;
  for (int64_t id : group.points) {
    const QuantizationPoint* point = prepared_.annotations.find(id);
    if (point && point->kind == PointKind::kWeight) removed.erase(id);
  }
  return removed;
}

QuantizedModel VariantMaker::make(const std::vector<const QuantizerGroup*>& reverted) const {
  std::set<int64_t> points;
  std::set<std::string> operators;
  for (const auto* group : reverted) {
    const auto removed = removed_points(*group);
    points.insert(removed.begin(), removed.end());
    operators.insert(group->operators.begin(), group->operators.end());
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  return convert_without(prepared_, options_, points, operators);
}

void VariantMaker::drop(QuantizedModel& model) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  free_graphs(model.model);
}

namespace {

/// Threads that take one group after another until none is left or one fails.
class Scoring {
 public:
  using Score = std::function<double(size_t group)>;

  Scoring(size_t groups, Score score, const Progress& progress)
      : score_(std::move(score)), progress_(progress), scores_(groups), failures_(groups) {}

  std::vector<double> run(int64_t workers) {
    const auto used = std::min<size_t>(static_cast<size_t>(workers), scores_.size());
    std::vector<std::thread> threads;
    for (size_t i = 1; i < used; ++i) threads.emplace_back([this] { work(); });
    work();
    for (auto& thread : threads) thread.join();
    for (const auto& failure : failures_) {
      if (failure) std::rethrow_exception(failure);
    }
    return scores_;
  }

 private:
  void work() {
    for (size_t i = next_++; i < scores_.size() && !stop_; i = next_++) {
      try {
        scores_[i] = score_(i);
        report();
      } catch (...) {
        failures_[i] = std::current_exception();
        stop_ = true;
      }
    }
  }

  void report() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++done_;
    if (!progress_ || progress_("rank", done_, static_cast<int64_t>(scores_.size()))) return;
    throw Error(ErrorCode::kCancelled, "accuracy control was cancelled while ranking");
  }

  Score score_;
  const Progress& progress_;
  std::vector<double> scores_;
  std::vector<std::exception_ptr> failures_;
  std::atomic<size_t> next_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  int64_t done_ = 0;
};

}  // namespace

std::vector<RankedGroup> rank_groups(const VariantMaker& maker, const Evaluator& evaluator,
                                     const MetricResults& reference, const std::vector<int64_t>& indices,
                                     const std::vector<const QuantizerGroup*>& groups,
                                     const std::vector<const QuantizerGroup*>& reverted, int64_t workers,
                                     const Progress& progress) {
  const auto score = [&](size_t i) {
    auto together = reverted;
    together.push_back(groups[i]);
    QuantizedModel variant = maker.make(together);
    const double value = evaluator.score(variant.model, reference, indices);
    maker.drop(variant);
    return value;
  };
  const auto scores = Scoring(groups.size(), score, progress).run(workers);
  std::vector<RankedGroup> ranked;
  for (size_t i = 0; i < groups.size(); ++i) ranked.push_back({groups[i], scores[i]});
  const auto value = [](const RankedGroup& group) { return std::isnan(group.score) ? -INFINITY : group.score; };
  std::stable_sort(ranked.begin(), ranked.end(),
                   [&](const RankedGroup& a, const RankedGroup& b) { return value(a) < value(b); });
  return ranked;
}

Machine this_machine() {
  return {static_cast<int64_t>(std::thread::hardware_concurrency()),
          static_cast<int64_t>(sysconf(_SC_AVPHYS_PAGES)) * sysconf(_SC_PAGESIZE)};
}

int64_t default_ranking_workers(double conversion_seconds, double validation_seconds, int64_t validation_samples,
                                int64_t ranking_samples, int64_t model_bytes, const Machine& machine) {
  constexpr double kThreshold = 1, kOverhead = 2;
  if (conversion_seconds < kThreshold) return 1;
  const double ranking_seconds =
      validation_seconds * static_cast<double>(ranking_samples) / static_cast<double>(validation_samples);
  const double wanted = std::round((conversion_seconds / std::max(ranking_seconds, 1e-6) + 1) * kOverhead);
  auto workers =
      std::max<int64_t>(std::min<int64_t>(static_cast<int64_t>(std::min(wanted, 1e6)), machine.cores / 2), 1);
  const int64_t copies = machine.free_bytes / std::max<int64_t>(2 * model_bytes, 1);
  return std::max<int64_t>(std::min(workers, copies - 1), 1);
}

}  // namespace tsquant
