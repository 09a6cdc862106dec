#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "tsquant/report.h"

namespace tsquant {

/// Peak resident memory of this process in bytes (VmHWM); 0 where the system does not tell.
int64_t peak_resident_bytes();

/// Records how long each phase of a flow takes. `start` ends the phase before.
class PhaseClock {
 public:
  explicit PhaseClock(Report& report) : report_(report) {}
  ~PhaseClock() { stop(); }
  void start(const std::string& name);
  void stop();
  /// The phase that runs; empty between phases.
  const std::string& current() const { return current_; }

 private:
  Report& report_;
  std::string current_;
  std::chrono::steady_clock::time_point begin_;
};

/// Runs `work`. What it throws besides Error (assertions of LibTorch, mostly) becomes an Error kInternal that names the
/// phase in which it was thrown; the original is nested in it (std::rethrow_if_nested).
void name_phase_in_errors(const PhaseClock& clock, const std::function<void()>& work);

}  // namespace tsquant
