// How much memory and time does the program take to compress a large language model, as a share of its file? Makes a
// Llama-like TorchScript model of 1.1 G parameters (4.4 GB; removed at the end) and runs `tsquant compress` on it:
// as a dry run of several kinds, without data, with GPTQ over a few samples, and so again in a control group that
// limits memory to 0.6 of the file (where such a group may be made: as root). Peak: what was resident, pages of the
// mapped file included, which the system takes away where room is short; own: memory that has no file behind it, which
// cannot be taken away.
//
// usage: bench_compress_memory PROGRAM [width=2048] [blocks=16], in TMPDIR; width 256 is done in seconds
//
// bench_compress_memory PROGRAM --best [width=2048] [tokens=65536]: what does `--quality best` with data take for such
// a model of 16 blocks? Runs it on a model of one block and says what the rest would add: blocks come one after the
// other, so time grows with them, and memory by their codes. Minutes of processors are what counts where other work
// runs on the machine.
#include <ATen/ATen.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <torch/script.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "llama_model.h"
#include "temporary_folder.h"

namespace {

namespace fs = std::filesystem;
using namespace tsquant::bench;
using torch::jit::Module;

constexpr int64_t kSamples = 4, kLength = 128;
constexpr double kMemoryLimit = 0.6;  ///< of the file

void write_tokens(const std::string& path, int64_t samples, int64_t length) {
  Module data("__torch__.Data");
  data.register_buffer("ids", at::randint(0, kTokens, {samples, length}, at::kLong));
  data.save(path);
}

/// What a run of the program cost.
struct Cost {
  double seconds = 0, processor = 0;  ///< processor: seconds of all cores
  double peak = 0, own = 0;           ///< bytes; own: without pages of files
};

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

/// Bytes without a file behind them at present, or 0 when the process is gone.
double own_bytes(pid_t process) {
  std::ifstream status(fmt::format("/proc/{}/status", process));
  std::string word;
  while (status >> word) {
    double kilobytes = 0;
    if (word == "RssAnon:" && status >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

/// A control group whose processes get so much memory, pages of files included, and are killed when they need more.
class LimitedMemory {
 public:
  explicit LimitedMemory(double bytes) {
    const fs::path root = "/sys/fs/cgroup";
    const bool unified = fs::exists(root / "cgroup.controllers");
    group_ = (unified ? root : root / "memory") / fmt::format("tsquant_bench_{}", getpid());
    std::error_code refused;
    if (!fs::create_directory(group_, refused)) return;
    std::ofstream limit(group_ / (unified ? "memory.max" : "memory.limit_in_bytes"));
    available_ = static_cast<bool>(limit << static_cast<int64_t>(bytes) << std::flush);
  }
  ~LimitedMemory() {
    std::error_code none;
    fs::remove(group_, none);
  }
  LimitedMemory(const LimitedMemory&) = delete;
  LimitedMemory& operator=(const LimitedMemory&) = delete;

  bool available() const { return available_; }
  /// The arguments of a program that starts in the group.
  std::vector<std::string> inside(const std::vector<std::string>& arguments) const {
    std::vector<std::string> result{"/bin/sh", "-c",
                                    fmt::format("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", group_.string())};
    result.insert(result.end(), arguments.begin(), arguments.end());
    return result;
  }

 private:
  fs::path group_;
  bool available_ = false;
};

/// Takes a file out of the system's cache, so that whoever reads it next is charged for its pages.
void forget_pages(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY);
  if (file < 0) throw std::runtime_error("cannot open " + path);
  fsync(file);
  posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  close(file);
}

Cost run(std::vector<std::string> arguments) {
  std::vector<char*> argv;
  for (auto& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const auto start = std::chrono::steady_clock::now();
  pid_t child = 0;
  if (posix_spawn(&child, argv[0], nullptr, nullptr, argv.data(), environ) != 0) {
    throw std::runtime_error("cannot start " + arguments.front());
  }
  int status = 0;
  rusage usage{};
  Cost cost;
  while (wait4(child, &status, WNOHANG, &usage) == 0) {
    cost.own = std::max(cost.own, own_bytes(child));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  if (status != 0) throw std::runtime_error(fmt::format("the program failed with status {}", status));
  cost.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  cost.processor = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
  cost.peak = static_cast<double>(usage.ru_maxrss) * 1024;
  return cost;
}

/// Runs work in a process of its own, whose memory is not counted.
template <typename Work>
void apart(const Work& work) {
  const pid_t child = fork();
  if (child == 0) {
    work();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (status != 0) throw std::runtime_error("the model could not be written");
}

void measure(const std::string& folder, const std::string& program, int64_t width, int64_t blocks) {
  const std::string model = folder + "/model.pt", data = folder + "/ids.pt", output = folder + "/out.pt";
  apart([&] {
    write_llama_model(model, width, blocks);
    write_tokens(data, kSamples, kLength);
  });
  const auto bytes = static_cast<double>(fs::file_size(model));
  fmt::print("{:.2f} GB of float weights\n", bytes / 1e9);
  const std::vector<std::string> compress{
      program,        "compress", model,          "--mode", "int4_sym",
      "--group-size", "64",       "--all-layers", "--json", folder + "/report.json"};
  const auto arguments_with = [&](const std::vector<std::string>& more) {
    auto arguments = compress;
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const auto timed = [&](const std::string& what, const std::vector<std::string>& arguments) {
    const Cost cost = run(arguments);
    fmt::print("{:<26} peak {:6.0f} MB = {:.3f} x the file, own {:6.0f} MB = {:.3f} x, {:7.1f} s, {:.2f} GB/s\n", what,
               cost.peak / 1e6, cost.peak / bytes, cost.own / 1e6, cost.own / bytes, cost.seconds,
               bytes / 1e9 / cost.seconds);
    std::fflush(stdout);
  };
  const auto measured = [&](const char* what, const std::vector<std::string>& more) {
    timed(what, arguments_with(more));
  };
  const std::vector<std::string> samples{"--data", data, "--inputs", "ids", "--subset-size", std::to_string(kSamples)};
  const auto with_samples = [&](std::vector<std::string> more) {
    more.insert(more.end(), samples.begin(), samples.end());
    return more;
  };
  measured("dry run", {"--dry-run"});
  measured("dry run, ratio", {"--dry-run", "--ratio", "0.8"});
  measured("dry run, target size", {"--dry-run", "--target-size", "13%"});
  measured("dry run, ratio with data", with_samples({"--dry-run", "--ratio", "0.8"}));
  measured("no data", {"-o", output});
  fmt::print("{:<26} {:.3f} x the file\n", "result", static_cast<double>(fs::file_size(output)) / bytes);
  const auto gptq = arguments_with(with_samples({"-o", output, "--gptq", "--no-resume"}));
  timed("gptq", gptq);
  const LimitedMemory limit(kMemoryLimit * bytes);
  const std::string what = fmt::format("gptq within {} x", kMemoryLimit);
  if (!limit.available()) {
    fmt::print("{:<26} skipped: no control group of memory can be made\n", what);
    return;
  }
  forget_pages(model);
  timed(what, limit.inside(gptq));
}

constexpr int64_t kWholeBlocks = 16, kLongSample = 512;
/// Of a block of llama_model.h: its weights by the square of the width, and what a weight takes in groups of 32.
constexpr double kBlockWeights = 14.5, kBytesOfWeight = (4 + (16 + 4) / 32.0) / 8;

void measure_best(const std::string& folder, const std::string& program, int64_t width, int64_t tokens) {
  const std::string model = folder + "/model.pt", data = folder + "/ids.pt", output = folder + "/out.pt";
  const int64_t samples = std::max<int64_t>(1, tokens / kLongSample);
  apart([&] {
    write_llama_model(model, width, 1);
    write_tokens(data, samples, kLongSample);
  });
  const std::vector<std::string> compress{program, "compress",    model,       "-o",
                                          output,  "--mode",      "int4_asym", "--group-size",
                                          "32",    "--no-resume", "--json",    folder + "/report.json"};
  const Cost plain = run(compress);
  auto arguments = compress;
  for (const std::string& word :
       {std::string("--quality"), std::string("best"), std::string("--data"), data, std::string("--inputs"),
        std::string("ids"), std::string("--subset-size"), std::to_string(samples)}) {
    arguments.push_back(word);
  }
  const Cost best = run(arguments);
  const double codes = kBlockWeights * static_cast<double>(width * width) * kBytesOfWeight;
  const auto show = [&](const char* what, const Cost& cost) {
    fmt::print("{:<10} {:.0f} s, {:.0f} s of processors, peak {:.2f} GB, own {:.2f} GB\n", what, cost.seconds,
               cost.processor, cost.peak / 1e9, cost.own / 1e9);
  };
  fmt::print("one block of {} channels, {} tokens\n", width, samples * kLongSample);
  show("no data", plain);
  show("best", best);
  const auto whole = [&](double without, double with) { return (without + kWholeBlocks * (with - without)) / 60; };
  fmt::print("{} blocks: {:.1f} min, {:.1f} min of processors, own at most {:.2f} GB\n", kWholeBlocks,
             whole(plain.seconds, best.seconds), whole(plain.processor, best.processor),
             (best.own + (kWholeBlocks - 1) * codes) / 1e9);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print("usage: {} PROGRAM [width] [blocks]\n       {} PROGRAM --best [width] [tokens]\n", argv[0], argv[0]);
    return 2;
  }
  if (argc > 2 && std::string(argv[2]) == "--best") {
    const int64_t width = argc > 3 ? std::atoi(argv[3]) : 2048, tokens = argc > 4 ? std::atoi(argv[4]) : 65536;
    return in_temporary_folder([&](const std::string& folder) { measure_best(folder, argv[1], width, tokens); });
  }
  const int64_t width = argc > 2 ? std::atoi(argv[2]) : 2048, blocks = argc > 3 ? std::atoi(argv[3]) : 16;
  return in_temporary_folder([&](const std::string& folder) { measure(folder, argv[1], width, blocks); });
}
