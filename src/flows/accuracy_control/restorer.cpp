#include "flows/accuracy_control/restorer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "tsquant/error.h"

namespace tsquant {

double DropLimit::drop(double metric) const {
  const double difference = initial_metric - metric;
  if (type == DropType::kAbsolute || difference == 0) return difference;
  if (initial_metric == 0) return std::copysign(std::numeric_limits<double>::infinity(), difference);
  return difference / std::abs(initial_metric);
}

bool DropLimit::met(double metric) const {
  return metric >= initial_metric || drop(metric) <= max_drop * (1 + 1e-9) + 1e-12;
}

namespace {

class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds), begin_(std::chrono::steady_clock::now()) {}
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

 private:
  double& seconds_;
  std::chrono::steady_clock::time_point begin_;
};

std::string place_of(const QuantizationPoint& point) {
  return point.input_port ? fmt::format("{} input {}", point.node, *point.input_port) : point.node;
}

class Search {
 public:
  Search(const VariantMaker& maker, Evaluator& evaluator, const DropLimit& limit, const MetricResults& reference,
         const RestoreSettings& settings, BestModel& best)
      : maker_(maker), evaluator_(evaluator), limit_(limit), reference_(reference), settings_(settings), best_(best) {}

  RestoreOutcome run(std::vector<const QuantizerGroup*> groups, const MetricResults& quantized) {
    if (settings_.max_num_iterations == 0 || groups.empty()) return std::move(outcome_);
    total_ = static_cast<int64_t>(groups.size());
    State current{{}, quantized};
    double previous_drop = limit_.drop(quantized.metric);
    bool forgive = true;
    auto ranked = rank(groups, current);
    for (int64_t i = 0; i < settings_.max_num_iterations && !ranked.empty(); ++i) {
      const RankedGroup next = ranked.back();
      ranked.pop_back();
      State changed = revert(current, next);
      const double drop = outcome_.steps.back().drop;
      if (limit_.met(changed.results.metric) || ranked.empty()) break;
      report_progress(i + 1);
      if (drop <= previous_drop || forgive) {
        forgive = false;
        current = std::move(changed);
        previous_drop = drop;
        continue;
      }
      outcome_.steps.back().kept = false;
      forgive = true;
      previous_drop = drop;
      ranked.push_back(next);
      std::vector<const QuantizerGroup*> rest;
      for (const auto& group : ranked) rest.push_back(group.group);
      ranked = rank(rest, current);
    }
    return std::move(outcome_);
  }

 private:
  /// The groups in float, and how the model does without them.
  struct State {
    std::vector<const QuantizerGroup*> reverted;
    MetricResults results;
  };

  std::vector<RankedGroup> rank(const std::vector<const QuantizerGroup*>& groups, const State& state) {
    const Stopwatch watch(outcome_.rank_seconds);
    const auto subset = evaluator_.select_subset(reference_, state.results, settings_.ranking_subset_size);
    return rank_groups(maker_, evaluator_, reference_, subset, groups, state.reverted, settings_.workers,
                       settings_.progress);
  }

  State revert(const State& from, const RankedGroup& next) {
    const Stopwatch watch(outcome_.restore_seconds);
    State state;
    state.reverted = from.reverted;
    state.reverted.push_back(next.group);
    QuantizedModel model = maker_.make(state.reverted);
    state.results = evaluator_.validate(model.model);
    record(next, state.results.metric);
    const double metric = state.results.metric;
    if (metric > best_.metric || limit_.met(metric)) {
      maker_.drop(best_.model);
      best_ = BestModel{std::move(model), metric, state.reverted};
      if (settings_.on_better) settings_.on_better(best_);
    } else {
      maker_.drop(model);
    }
    return state;
  }

  void record(const RankedGroup& ranked, double metric) {
    RevertedGroup step;
    step.operators = ranked.group->operators;
    for (int64_t id : maker_.removed_points(*ranked.group)) {
      step.quantizers.push_back(place_of(*maker_.prepared().annotations.find(id)));
    }
    step.score = ranked.score;
    step.metric = metric;
    step.drop = limit_.drop(metric);
    outcome_.steps.push_back(std::move(step));
  }

  void report_progress(int64_t done) {
    if (!settings_.progress || settings_.progress("restore", std::min(done, total_), total_)) return;
    throw Error(ErrorCode::kCancelled, fmt::format("accuracy control was cancelled after {} steps", done));
  }

  const VariantMaker& maker_;
  Evaluator& evaluator_;
  const DropLimit& limit_;
  const MetricResults& reference_;
  const RestoreSettings& settings_;
  BestModel& best_;
  int64_t total_ = 0;
  RestoreOutcome outcome_;
};

}  // namespace

RestoreOutcome restore_accuracy(const VariantMaker& maker, const std::vector<QuantizerGroup>& groups,
                                Evaluator& evaluator, const DropLimit& limit, const MetricResults& reference,
                                const MetricResults& quantized, const RestoreSettings& settings, BestModel& best) {
  std::vector<const QuantizerGroup*> pointers;
  for (const auto& group : groups) pointers.push_back(&group);
  return Search(maker, evaluator, limit, reference, settings, best).run(std::move(pointers), quantized);
}

}  // namespace tsquant
