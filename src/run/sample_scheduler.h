#pragma once

#include <cstdint>
#include <functional>

namespace tsquant {

/// One sample's place among the samples that a team works on.
class Turn {
 public:
  /// Calls `work` when no earlier sample can still come to this place, so that a place sees the samples in their order.
  /// @param repeats the place may be visited several times by one sample: then earlier samples must have ended
  void in_order(size_t place, bool repeats, const std::function<void()>& work);

 private:
  friend class SampleScheduler;
  class SampleScheduler* team_ = nullptr;  ///< none: one sample after the other
  int64_t sample_ = 0;
};

using SampleWork = std::function<void(int64_t sample, Turn& turn)>;

/// Works on the samples 0 to `count` - 1, each on one thread, several at a time when more than one thread is allowed
/// (LibTorch's setting outside of all SingleThreadGuard guards). Samples start in their order. What `work` does in
/// order is the same for any number of threads; the operators in it are, too, because each runs on one thread.
///
/// Several samples are in memory at a time: at most 16, and as many as there are threads.
/// @param independent false: a sample's result depends on the samples before, so they run one after the other
/// @param report called on this thread with the number of samples that ended; what it throws ends the run
/// @throws what `work` threw for the first sample that failed
void run_samples(int64_t count, bool independent, const SampleWork& work,
                 const std::function<void(int64_t done)>& report);

}  // namespace tsquant
