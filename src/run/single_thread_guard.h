#pragma once

namespace tsquant {

/// While one exists, this thread's tensor operations run on one thread each, OpenBLAS's included: LibTorch cuts
/// element-wise work and sums, and OpenBLAS matrices, by the number of threads, and the pieces round differently.
/// What is measured for a file runs under such a guard; threads work on different samples instead (sample_scheduler.h).
///
/// Guards may be nested, and may exist on several threads; OpenBLAS's setting, one for the whole process, is restored
/// by the last of them.
class SingleThreadGuard {
 public:
  SingleThreadGuard();
  ~SingleThreadGuard();
  SingleThreadGuard(const SingleThreadGuard&) = delete;
  SingleThreadGuard& operator=(const SingleThreadGuard&) = delete;

  /// LibTorch's number of threads outside of all guards of this thread: what may be used in total.
  int allowed() const;

 private:
  int previous_, previous_allowed_;
};

}  // namespace tsquant
