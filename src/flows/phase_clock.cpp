#include "flows/phase_clock.h"

#include <fstream>

namespace tsquant {

int64_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word == "VmHWM:") {
      int64_t kilobytes = 0;
      status >> kilobytes;
      return kilobytes * 1024;
    }
  }
  return 0;
}

void PhaseClock::start(const std::string& name) {
  stop();
  current_ = name;
  begin_ = std::chrono::steady_clock::now();
}

void PhaseClock::stop() {
  if (current_.empty()) return;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin_;
  report_.phases.push_back({current_, seconds.count(), peak_resident_bytes()});
  current_.clear();
}

}  // namespace tsquant
