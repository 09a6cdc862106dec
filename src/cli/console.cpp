#include "cli/console.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>

#include "io/output_file.h"

namespace tsquant::cli {

namespace {

volatile std::sig_atomic_t interrupt_seen = 0, termination_seen = 0;

void on_interrupt(int signal) {
  interrupt_seen = 1;
  if (signal == SIGTERM) termination_seen = 1;
  std::signal(signal, SIG_DFL);
}

struct ProgressState {
  using Clock = std::chrono::steady_clock;
  std::string phase;
  Clock::time_point begin = Clock::now(), last = begin;
  bool bar_shown = false;
};

/// fmt::print throws when the disk behind stderr is full, which is no reason to stop.
void print_error(const std::string& text) { std::fputs(text.c_str(), stderr); }

/// ", 12 s left"; empty when nothing says how long it will take.
std::string time_left(int64_t done, int64_t total, double seconds) {
  if (done <= 0 || total <= done) return "";
  return fmt::format(", {:.0f} s left", seconds * static_cast<double>(total - done) / static_cast<double>(done));
}

void show_bar(const std::string& phase, int64_t done, int64_t total, double seconds) {
  constexpr int64_t kWidth = 30;
  const int64_t filled = total > 0 ? kWidth * done / total : 0;
  // Blanks at the end cover what a longer line before has left.
  print_error(fmt::format("\r{:<10} [{:=<{}}{: <{}}] {}/{}  {:.0f} s{:<14}", phase, "", filled, "", kWidth - filled,
                          done, total, seconds, time_left(done, total, seconds)));
  if (done == total) print_error("\n");
  std::fflush(stderr);
}

}  // namespace

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return 2;
    case ErrorCode::kModelLoad:
      return 3;
    case ErrorCode::kUnsupportedModel:
    case ErrorCode::kBackendUnavailable:
      return 4;
    case ErrorCode::kDataset:
    case ErrorCode::kCalibration:
      return 5;
    case ErrorCode::kAccuracyLimit:
      return 6;
    case ErrorCode::kIo:
    case ErrorCode::kCancelled:
    case ErrorCode::kInternal:
      return 7;
  }
  return 7;
}

void catch_signals() {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
  std::signal(SIGXFSZ, SIG_IGN);
}

bool interrupted() { return interrupt_seen != 0; }

bool terminated() { return termination_seen != 0; }

void stop_if_interrupted() {
  if (interrupted()) throw Error(ErrorCode::kCancelled, "interrupted", "", "nothing was written");
}

Progress console_progress() {
  auto state = std::make_shared<ProgressState>();
  const bool terminal = isatty(STDERR_FILENO) == 1;
  return [state, terminal](const std::string& phase, int64_t done, int64_t total) {
    const auto now = ProgressState::Clock::now();
    if (phase != state->phase) {
      state->phase = phase;
      state->begin = state->last = now;
    }
    const auto interval = terminal ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000);
    const double seconds = std::chrono::duration<double>(now - state->begin).count();
    if (now - state->last >= interval || (terminal && done == total)) {
      state->last = now;
      if (terminal) {
        show_bar(phase, done, total, seconds);
      } else {
        print_error(fmt::format("{}: {} of {} after {:.0f} s{}\n", phase, done, total, seconds,
                                time_left(done, total, seconds)));
      }
    }
    return !interrupted();
  };
}

void log_line(const std::string& text) { print_error(text + "\n"); }

void write_text(const std::string& path, const std::string& what, const std::string& text) {
  if (path == "-") {
    std::cout << text << std::endl;
  } else {
    std::cout.flush();  // the path may lead to stdout
    write_file(path, what, text + "\n");
  }
}

void require_written_stdout() {
  errno = 0;
  std::cout.flush();
  const bool lost = !std::cout || std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
  if (!lost) return;
  const std::string reason = errno != 0 ? std::string(": ") + std::strerror(errno) : "";
  throw Error(ErrorCode::kIo, "cannot write the result to stdout" + reason, "",
              "make room where it is redirected to, or name a file with --json");
}

}  // namespace tsquant::cli
