#include "flows/phase_clock.h"

#include <fmt/format.h>

#include <exception>
#include <fstream>

#include "base/error_text.h"
#include "tsquant/error.h"

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

void name_phase_in_errors(const PhaseClock& clock, const std::function<void()>& work) {
  try {
    work();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    std::throw_with_nested(Error(ErrorCode::kInternal,
                                 fmt::format("phase {} failed: {}", clock.current(), short_message(error)),
                                 clock.current(), "please report this with the model"));
  }
}

}  // namespace tsquant
