#pragma once

#include <ATen/core/Tensor.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "tsquant/distributed.h"

namespace tsquant::testing {

/// The meeting place of ranks that are threads of one process.
class SharedRanks {
 public:
  explicit SharedRanks(int64_t size) : slots_(static_cast<size_t>(size)) {}

  std::vector<std::vector<at::Tensor>> all_gather(int64_t rank, const std::vector<at::Tensor>& tensors) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return leaving_ == 0; });
    slots_[static_cast<size_t>(rank)] = tensors;
    const auto turn = turn_;
    if (++arrived_ == slots_.size()) {
      leaving_ = slots_.size();
      arrived_ = 0;
      ++turn_;
      changed_.notify_all();
    } else {
      changed_.wait(lock, [&] { return turn_ != turn; });
    }
    auto all = slots_;
    if (--leaving_ == 0) changed_.notify_all();
    return all;
  }

  size_t size() const { return slots_.size(); }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::vector<at::Tensor>> slots_;
  size_t arrived_ = 0, leaving_ = 0, turn_ = 0;
};

class ThreadRank : public StatisticsExchange {
 public:
  ThreadRank(std::shared_ptr<SharedRanks> ranks, int64_t rank) : ranks_(std::move(ranks)), rank_(rank) {}
  int64_t rank() const override { return rank_; }
  int64_t size() const override { return static_cast<int64_t>(ranks_->size()); }
  std::vector<std::vector<at::Tensor>> all_gather(const std::vector<at::Tensor>& tensors) override {
    return ranks_->all_gather(rank_, tensors);
  }

 private:
  std::shared_ptr<SharedRanks> ranks_;
  int64_t rank_;
};

/// Runs `work` once per rank, each on a thread of its own.
inline void for_each_rank(int64_t size, const std::function<void(std::shared_ptr<StatisticsExchange>)>& work) {
  auto ranks = std::make_shared<SharedRanks>(size);
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] { work(std::make_shared<ThreadRank>(ranks, rank)); });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace tsquant::testing
