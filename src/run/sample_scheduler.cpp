#include "run/sample_scheduler.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "run/single_thread_guard.h"

namespace tsquant {

namespace {

/// Each sample at work holds its activations.
constexpr int64_t kMostTogether = 16;

}  // namespace

class SampleScheduler {
 public:
  SampleScheduler(int64_t count, const SampleWork& work) : count_(count), work_(work) {}

  void run(int64_t size, const std::function<void(int64_t)>& report) {
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < size; ++i) threads.emplace_back([this] { work_on_samples(); });
    std::exception_ptr cancelled;
    try {
      for (int64_t reported = 0; wait_for_more(reported);) report(++reported);
    } catch (...) {
      cancelled = std::current_exception();
      stop();
    }
    for (auto& thread : threads) thread.join();
    if (!failures_.empty()) std::rethrow_exception(failures_.begin()->second);
    if (cancelled) std::rethrow_exception(cancelled);
  }

  void in_order(int64_t sample, size_t place, bool repeats, const std::function<void()>& work) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return may_enter(sample, place, repeats); });
    lock.unlock();
    work();
    lock.lock();
    passed_[sample].insert(place);
    changed_.notify_all();
  }

 private:
  /// The earliest sample never waits, so the team cannot come to a standstill.
  bool may_enter(int64_t sample, size_t place, bool repeats) const {
    return std::all_of(passed_.begin(), passed_.lower_bound(sample),
                       [&](const auto& earlier) { return !repeats && earlier.second.count(place) > 0; });
  }

  /// The next sample; -1 when there is none or one failed.
  int64_t start_next() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopped_ || next_ == count_) return -1;
    passed_[next_];
    return next_++;
  }

  void end(int64_t sample, std::exception_ptr failure) {
    const std::lock_guard<std::mutex> lock(mutex_);
    passed_.erase(sample);
    if (failure) {
      failures_[sample] = failure;
      stopped_ = true;
    } else {
      ++done_;
    }
    changed_.notify_all();
  }

  void stop() {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
  }

  /// False when no more samples will end well.
  bool wait_for_more(int64_t reported) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return done_ > reported || stopped_ || done_ == count_; });
    return done_ > reported && !stopped_;
  }

  void work_on_samples() {
    at::set_num_threads(1);
    for (int64_t sample = start_next(); sample >= 0; sample = start_next()) {
      Turn turn;
      turn.team_ = this;
      turn.sample_ = sample;
      std::exception_ptr failure;
      try {
        work_(sample, turn);
      } catch (...) {
        failure = std::current_exception();
      }
      end(sample, failure);
    }
  }

  const int64_t count_;
  const SampleWork& work_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int64_t, std::set<size_t>> passed_;  ///< places that each sample at work has left behind
  std::map<int64_t, std::exception_ptr> failures_;
  int64_t next_ = 0, done_ = 0;
  bool stopped_ = false;
};

void Turn::in_order(size_t place, bool repeats, const std::function<void()>& work) {
  team_ ? team_->in_order(sample_, place, repeats, work) : work();
}

void run_samples(int64_t count, bool independent, const SampleWork& work,
                 const std::function<void(int64_t done)>& report) {
  const SingleThreadGuard deterministic;
  const int64_t size = std::min({static_cast<int64_t>(deterministic.allowed()), count, kMostTogether});
  if (independent && size > 1) return SampleScheduler(count, work).run(size, report);
  Turn alone;
  for (int64_t i = 0; i < count; ++i) {
    work(i, alone);
    report(i + 1);
  }
}

}  // namespace tsquant
