#include "calibration/sharded_run.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "calibration/rank_agreement.h"
#include "calibration/tap_exchange.h"
#include "observers/histogram_observer.h"
#include "observers/replayable.h"
#include "tsquant/distributed.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Samples of each rank between two exchanges: bounds the memory for summaries and the time until a lost rank shows.
constexpr int64_t kRounds = 8;

/// The counts of a histogram while its range stayed the same.
struct Epoch {
  float min = 0, max = 0;
  at::Tensor bins;
};

struct TapState {
  Replayable* replayable = nullptr;
  HistogramObserver* histogram = nullptr;
  at::Tensor counters;  ///< of a histogram: sum over all calls
  std::vector<Epoch> epochs;
};

class ShardedRun {
 public:
  ShardedRun(ActivationTaps& taps, int64_t total, const SampleSource& source, StatisticsExchange& exchange)
      : taps_(taps), total_(total), source_(source), exchange_(exchange), states_(taps.size()) {
    for (size_t i = 0; i < states_.size(); ++i) {
      auto& state = states_[i];
      state.replayable = dynamic_cast<Replayable*>(&taps.observer(i));
      state.histogram = dynamic_cast<HistogramObserver*>(&taps.observer(i));
      if (state.replayable) continue;
      if (!state.histogram) {
        throw Error(ErrorCode::kCalibration, "these statistics cannot be collected across processes", taps.place(i),
                    "calibrate in one process");
      }
      state.counters = counter_tensor(0, 0, 0);
      has_histograms_ = true;
    }
  }

  void run() {
    for (int64_t round = 0; round * exchange_.size() < total_; round += kRounds) replay_rounds(round);
    if (!has_histograms_) return;
    count_histograms();
    join_histograms();
  }

 private:
  /// The sample of this rank in a round; -1 when there is none left.
  int64_t sample_of(int64_t round) const {
    const int64_t sample = round * exchange_.size() + exchange_.rank();
    return sample < total_ ? sample : -1;
  }

  void replay_rounds(int64_t first) {
    std::vector<TapCall> calls;
    std::exception_ptr failure;
    try {
      for (int64_t round = first; round < first + kRounds; ++round) {
        if (const int64_t sample = sample_of(round); sample >= 0) record(sample, calls);
        source_.report(std::min(total_, (round + 1) * exchange_.size()));
        if ((round + 1) * exchange_.size() >= total_) break;
      }
    } catch (...) {
      failure = std::current_exception();
    }
    throw_together(&exchange_, failure);
    for (const auto& call : exchange_calls(exchange_, calls)) replay(call);
  }

  void record(int64_t sample, std::vector<TapCall>& calls) {
    taps_.run(source_.get(sample), [&](size_t tap, const at::Tensor& x) {
      const auto& state = states_[tap];
      auto summary = state.replayable ? state.replayable->summary(x) : state.histogram->limits(x);
      require_no_nan(summary.at(0).data_ptr<int64_t>()[2], x, sample);
      calls.push_back({sample, tap, std::move(summary)});
    });
  }

  void replay(const TapCall& call) {
    auto& state = states_.at(call.tap);
    if (state.replayable) return replay_summary(*state.replayable, call);
    state.counters += call.summary.at(0);
    const auto& limits = call.summary.at(1);
    if (limits.numel() == 2) enter_epoch(state, limits.data_ptr<float>()[0], limits.data_ptr<float>()[1]);
    if (call.sample % exchange_.size() == exchange_.rank()) {
      const bool counted = limits.numel() == 2;
      own_calls_[{call.sample, call.tap}].push_back(counted ? static_cast<int64_t>(state.epochs.size()) - 1 : -1);
    }
  }

  void replay_summary(Replayable& observer, const TapCall& call) {
    try {
      observer.replay(call.summary);
    } catch (const Error& error) {
      throw Error(error.code(), error.message(), taps_.place(call.tap), error.advice());
    }
  }

  static void enter_epoch(TapState& state, float min, float max) {
    Epoch next{min, max, {}};
    if (!state.epochs.empty()) {
      const auto& last = state.epochs.back();
      next.min = std::min(min, last.min);
      next.max = std::max(max, last.max);
      if (next.min == last.min && next.max == last.max) return;
    }
    next.bins = at::zeros({static_cast<int64_t>(state.histogram->histogram().fresh().size())}, at::kLong);
    state.epochs.push_back(next);
  }

  /// Runs this rank's samples again: now the range that each tensor is counted over is known.
  void count_histograms() {
    std::exception_ptr failure;
    try {
      for (int64_t round = 0; sample_of(round) >= 0; ++round) {
        count_sample(sample_of(round));
        source_.report(total_);
      }
    } catch (...) {
      failure = std::current_exception();
    }
    throw_together(&exchange_, failure);
  }

  void count_sample(int64_t sample) {
    std::vector<size_t> seen(states_.size(), 0);
    taps_.run(source_.get(sample), [&](size_t tap, const at::Tensor& x) {
      auto& state = states_[tap];
      if (!state.histogram) return;
      const auto& calls = own_calls_[{sample, tap}];
      if (seen[tap] >= calls.size()) {
        throw Error(ErrorCode::kCalibration, "the model ran differently the second time", "",
                    "histograms across processes read each sample twice; the data set must give the same again");
      }
      const int64_t epoch = calls[seen[tap]++];
      if (epoch < 0) return;
      auto& chosen = state.epochs[static_cast<size_t>(epoch)];
      chosen.bins += state.histogram->bins(x, chosen.min, chosen.max);
    });
  }

  void join_histograms() {
    std::vector<at::Tensor> mine;
    for (const auto& state : states_) {
      for (const auto& epoch : state.epochs) mine.push_back(epoch.bins);
    }
    if (!mine.empty()) mine = {at::stack(mine)};
    at::Tensor sum;
    for (const auto& theirs : exchange_.all_gather(mine)) {
      if (!theirs.empty()) sum = sum.defined() ? sum + theirs[0] : theirs[0];
    }
    int64_t row = 0;
    for (auto& state : states_) {
      if (!state.histogram) continue;
      for (const auto& epoch : state.epochs) state.histogram->add(sum[row++], epoch.min, epoch.max);
      state.histogram->add(state.counters);
    }
  }

  ActivationTaps& taps_;
  const int64_t total_;
  const SampleSource& source_;
  StatisticsExchange& exchange_;
  std::vector<TapState> states_;
  bool has_histograms_ = false;
  /// The epoch of each tensor that a histogram tap of this rank saw; -1 for one without finite values.
  std::map<std::pair<int64_t, size_t>, std::vector<int64_t>> own_calls_;
};

}  // namespace

void run_sharded(ActivationTaps& taps, int64_t total, const SampleSource& source, StatisticsExchange& exchange) {
  if (exchange.size() > total) {
    throw Error(ErrorCode::kCalibration, fmt::format("{} processes share {} samples", exchange.size(), total),
                "calibration across processes", "start at most one process per sample");
  }
  if (exchange.size() > 1 && taps.stateful()) {
    throw Error(ErrorCode::kCalibration, "the model keeps state between samples, so their order matters", "forward",
                "calibrate in one process");
  }
  ShardedRun(taps, total, source, exchange).run();
}

}  // namespace tsquant
