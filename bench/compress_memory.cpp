// How much memory and time does the program take to compress a large language model, as a share of its file? Makes a
// Llama-like TorchScript model of 1.1 G parameters (4.4 GB; removed at the end) and runs `tsquant compress` on it:
// without data, as a dry run, and with GPTQ over a few samples. Pages of the file count in the peak as long as there is
// room; to see that less room is enough, start it in a control group with a limit.
//
// usage: bench_compress_memory PROGRAM [width=2048] [blocks=16], in TMPDIR; width 256 is done in seconds
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <torch/script.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "llama_model.h"
#include "temporary_folder.h"

namespace {

namespace fs = std::filesystem;
using namespace tsquant::bench;
using torch::jit::Module;

constexpr int64_t kSamples = 4, kLength = 128;

void write_tokens(const std::string& path) {
  Module data("__torch__.Data");
  data.register_buffer("ids", at::randint(0, kTokens, {kSamples, kLength}, at::kLong));
  data.save(path);
}

/// What a run of the program cost.
struct Cost {
  double seconds = 0, peak = 0;  ///< peak: bytes
};

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
  wait4(child, &status, 0, &usage);
  if (status != 0) throw std::runtime_error(fmt::format("the program failed with status {}", status));
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
          static_cast<double>(usage.ru_maxrss) * 1024};
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
    write_tokens(data);
  });
  const auto bytes = static_cast<double>(fs::file_size(model));
  fmt::print("{:.2f} GB of float weights\n", bytes / 1e9);
  const std::vector<std::string> compress{
      program,        "compress", model,          "--mode", "int4_sym",
      "--group-size", "64",       "--all-layers", "--json", folder + "/report.json"};
  const auto measured = [&](const char* what, const std::vector<std::string>& more) {
    auto arguments = compress;
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Cost cost = run(arguments);
    fmt::print("{:<12} peak {:7.0f} MB = {:.3f} x the file, {:7.1f} s, {:.2f} GB/s\n", what, cost.peak / 1e6,
               cost.peak / bytes, cost.seconds, bytes / 1e9 / cost.seconds);
    std::fflush(stdout);
  };
  measured("dry run", {"--dry-run"});
  measured("no data", {"-o", output});
  fmt::print("{:<12} {:.3f} x the file\n", "result", static_cast<double>(fs::file_size(output)) / bytes);
  measured("gptq", {"-o", output, "--gptq", "--data", data, "--inputs", "ids", "--subset-size", "4"});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print("usage: {} PROGRAM [width] [blocks]\n", argv[0]);
    return 2;
  }
  const int64_t width = argc > 2 ? std::atoi(argv[2]) : 2048, blocks = argc > 3 ? std::atoi(argv[3]) : 16;
  return in_temporary_folder([&](const std::string& folder) { measure(folder, argv[1], width, blocks); });
}
