#pragma once

#include <chrono>
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

 private:
  Report& report_;
  std::string current_;
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace tsquant
