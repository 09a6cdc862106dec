#include "run/sample_scheduler.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

namespace tsquant {
namespace {

/// LibTorch's setting for one test.
class Threads {
 public:
  explicit Threads(int count) : previous_(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(previous_); }

 private:
  int previous_;
};

void nap(int64_t milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

TEST(SampleScheduler, PlacesSeeTheSamplesInTheirOrder) {
  for (const int threads : {1, 4}) {
    const Threads setting(threads);
    std::vector<int64_t> first, second, looped;
    std::vector<int64_t> progress;
    run_samples(
        20, true,
        [&](int64_t sample, Turn& turn) {
          nap(sample % 3);  // later samples arrive first
          turn.in_order(0, false, [&] { first.push_back(sample); });
          // A branch that some samples do not take.
          if (sample % 4 != 1) turn.in_order(1, false, [&] { second.push_back(sample); });
          for (int i = 0; i < 2; ++i) turn.in_order(2, true, [&] { looped.push_back(sample); });
        },
        [&](int64_t done) { progress.push_back(done); });
    ASSERT_EQ(first.size(), 20u);
    ASSERT_EQ(second.size(), 15u);
    ASSERT_EQ(looped.size(), 40u);
    for (int64_t i = 0; i < 20; ++i) EXPECT_EQ(first[static_cast<size_t>(i)], i);
    for (int64_t i = 0; i < 40; ++i) EXPECT_EQ(looped[static_cast<size_t>(i)], i / 2) << "not mixed with other samples";
    EXPECT_TRUE(std::is_sorted(second.begin(), second.end()));
    ASSERT_EQ(progress.size(), 20u);
    EXPECT_EQ(progress.back(), 20);
    EXPECT_TRUE(std::is_sorted(progress.begin(), progress.end()));
  }
}

TEST(SampleScheduler, SeveralSamplesAreAtWorkOnOneThreadEach) {
  const Threads setting(3);
  std::atomic<int> present{0}, most{0};
  std::atomic<bool> single{true};
  const auto work = [&](int64_t, Turn&) {
    if (at::get_num_threads() != 1) single = false;
    const int now = ++present;
    for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) continue;
    nap(20);
    --present;
  };
  run_samples(9, true, work, [](int64_t) {});
  EXPECT_EQ(most, 3);
  EXPECT_TRUE(single);
  EXPECT_EQ(at::get_num_threads(), 3) << "the setting is restored";
  most = 0;
  run_samples(4, false, work, [](int64_t) {});
  EXPECT_EQ(most, 1) << "samples that depend on each other";
}

TEST(SampleScheduler, TheFirstFailureIsThrown) {
  for (const int threads : {1, 4}) {
    const Threads setting(threads);
    std::atomic<int64_t> started{0};
    try {
      run_samples(
          1000, true,
          [&](int64_t sample, Turn&) {
            ++started;
            nap(sample == 2 ? 20 : 1);
            if (sample >= 2) throw std::runtime_error("sample " + std::to_string(sample));
          },
          [](int64_t) {});
      FAIL();
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "sample 2");
    }
    EXPECT_LT(started, 20) << "no more samples are started";
  }
}

TEST(SampleScheduler, AFailureDoesNotHoldUpOthersThatWait) {
  const Threads setting(2);
  std::atomic<bool> passed{false};
  EXPECT_THROW(run_samples(
                   2, true,
                   [&](int64_t sample, Turn& turn) {
                     nap(10 * (1 - sample));
                     if (sample == 0) throw std::runtime_error("early");
                     turn.in_order(0, true, [&] { passed = true; });
                   },
                   [](int64_t) {}),
               std::runtime_error);
  EXPECT_TRUE(passed);
}

TEST(SampleScheduler, TheReportCanEndTheRun) {
  for (const int threads : {1, 3}) {
    const Threads setting(threads);
    std::atomic<int64_t> started{0};
    const auto work = [&](int64_t, Turn&) {
      ++started;
      nap(2);
    };
    EXPECT_THROW(run_samples(1000, true, work,
                             [](int64_t done) {
                               if (done == 3) throw std::out_of_range("cancelled");
                             }),
                 std::out_of_range);
    EXPECT_LT(started, 100);
  }
}

}  // namespace
}  // namespace tsquant
