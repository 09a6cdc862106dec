// Gives the program damaged models, data, statistics, configurations and quantized files. No signal, no hang, only
// documented exit codes with one sentence in the program's own words, nothing half-written. The same seed damages the
// same bytes. usage: mutate_inputs [--cases N] [--seed S] [--keep FOLDER]
// Each case runs in a fork of this process, which has LibTorch loaded already.
#include <ATen/Parallel.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <torch/script.h>
#include <torch/serialize.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <set>

#include "cli/dispatch.h"
#include "fuzz/mutate.h"

namespace tsquant::fuzz {
namespace {

namespace fs = std::filesystem;
using torch::jit::Module;
using Arguments = std::vector<std::string>;

constexpr unsigned kSecondsPerCase = 60;
constexpr rlim_t kMemory = rlim_t{16} << 30;

void write_file(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// Runs the program in a fork. @return the exit code, or minus the signal that ended it
int run_forked(const Arguments& arguments, const std::string& folder) {
  const pid_t child = fork();
  if (child == 0) {
    if (chdir(folder.c_str()) != 0) _exit(99);
    const int out = open("stdout.txt", O_CREAT | O_TRUNC | O_WRONLY, 0600);
    const int err = open("stderr.txt", O_CREAT | O_TRUNC | O_WRONLY, 0600);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    const rlimit memory{kMemory, kMemory}, core{0, 0};
    setrlimit(RLIMIT_AS, &memory);
    setrlimit(RLIMIT_CORE, &core);
    alarm(kSecondsPerCase);
    std::vector<char*> argv;
    Arguments copy = arguments;
    for (auto& argument : copy) argv.push_back(argument.data());
    const int code = cli::dispatch(static_cast<int>(argv.size()), argv.data());
    fflush(nullptr);
    _exit(code);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/// A file that is damaged, and the commands that read it.
struct Target {
  std::string file;
  std::vector<Arguments> commands;
  std::set<int> codes;
};

const Arguments kQuantize = {"tsquant", "quantize", "model.pt", "--data", "data.pt", "--inputs", "x", "-o", "out.pt"};

Arguments with(Arguments base, const Arguments& more) {
  base.insert(base.end(), more.begin(), more.end());
  return base;
}

Arguments quantize_with(const std::string& what, const std::string& file) {
  Arguments arguments = kQuantize;
  for (size_t i = 0; i + 1 < arguments.size(); ++i) {
    if (arguments[i] == what) arguments[i + 1] = file;
  }
  return arguments;
}

std::vector<Target> targets() {
  const auto evaluate = [](const std::string& file) {
    return Arguments{"tsquant", "evaluate", file, "--data", "data.pt", "--inputs", "x", "--labels", "y"};
  };
  // A damaged model may still be one, whose quantization is refused for any documented reason.
  return {
      {"model.pt",
       {quantize_with("quantize", "bad"),
        {"tsquant", "inspect", "bad", "--input-shape", "1,3,8,8"},
        {"tsquant", "compress", "bad", "-o", "out.pt"}},
       {0, 2, 3, 4, 5}},
      {"words.pt",
       {{"tsquant", "compress", "bad", "--mode", "int4_sym", "--group-size", "32", "-o", "out.pt"},
        {"tsquant", "compress", "bad", "--dry-run"},
        {"tsquant", "inspect", "bad"}},
       {0, 2, 3, 4, 5}},
      {"data.pt", {quantize_with("--data", "bad")}, {0, 2, 4, 5}},
      {"pickled.pt", {quantize_with("--data", "bad")}, {0, 2, 4, 5}},
      {"stats.pt", {with(kQuantize, {"--stats-in", "bad"})}, {0, 2, 4, 5}},
      {"config.json", {with(kQuantize, {"--config", "bad"})}, {0, 2, 4, 5}},
      {"compress.json",
       {{"tsquant", "compress", "model.pt", "-o", "out.pt", "--config", "bad"},
        {"tsquant", "options", "--config", "bad"}},
       {0, 2, 4}},
      {"compressed.pt",
       {{"tsquant", "convert", "bad", "-o", "out.pt", "--form", "reference"},
        {"tsquant", "strip", "bad", "-o", "out.pt", "--format", "in_place"},
        evaluate("bad")},
       {0, 2, 3, 4, 5}},
      {"reference.pt",
       {{"tsquant", "report", "bad"}, {"tsquant", "strip", "bad", "-o", "out.pt"}, evaluate("bad")},
       {0, 2, 3, 4, 5}},
      {"lowered.pt", {evaluate("bad"), {"tsquant", "inspect", "bad", "--input-shape", "1,3,8,8"}}, {0, 2, 3, 4, 5}},
  };
}

Module small_model() {
  Module model("__torch__.Small");
  model.register_attribute("training", c10::BoolType::get(), false);
  model.register_parameter("w", at::randn({8, 3, 3, 3}), false);
  model.register_parameter("b", at::randn({8}), false);
  model.register_parameter("v", at::randn({4, 8}), false);
  model.define(R"(
def forward(self, x):
    y = torch.relu(torch.conv2d(x, self.w, self.b, [1, 1], [1, 1], [1, 1], 1))
    y = torch.flatten(torch.adaptive_avg_pool2d(y, [1, 1]), 1, -1)
    return torch.linear(y, self.v, None)
)");
  return model;
}

/// Its weights are large enough to stay in the file.
Module word_model() {
  Module model("__torch__.Words");
  model.register_attribute("training", c10::BoolType::get(), false);
  model.register_parameter("table", at::randn({64, 128}), false);
  model.register_parameter("head", at::randn({64, 128}), false);
  model.define(R"(
def forward(self, x):
    return torch.linear(torch.embedding(self.table, x), self.head, None)
)");
  return model;
}

void make_seeds(const fs::path& folder) {
  at::manual_seed(3);
  word_model().save((folder / "words.pt").string());
  small_model().save((folder / "model.pt").string());
  Module data("__torch__.Data");
  data.register_buffer("x", at::randn({4, 3, 8, 8}));
  data.register_buffer("y", at::zeros({4}, at::kLong));
  data.save((folder / "data.pt").string());
  c10::impl::GenericDict pickled(c10::StringType::get(), c10::TensorType::get());
  pickled.insert("x", at::randn({4, 3, 8, 8}));
  const auto bytes = torch::pickle_save(pickled);
  write_file(folder / "pickled.pt", {bytes.begin(), bytes.end()});
  write_file(folder / "config.json", R"({"input_info": {"sample_size": [1, 3, 8, 8]},
 "compression": {"algorithm": "quantization", "preset": "mixed", "target_device": "CPU", "subset_size": 4,
  "ignored_scope": {"names": ["a"], "validate": false},
  "advanced_parameters": {"activations_range_estimator_params": {"min": {"statistics_type": "min"}}}}})");
  write_file(folder / "compress.json", R"({"mode": "int4_asym", "group_size": 4, "awq": true, "ratio": 0.5,
 "ignored_scope": {"names": ["v"]}, "advanced_parameters": {"awq_params": {"steps": 3}}})");
  const std::vector<Arguments> commands = {
      {"tsquant", "compress", "model.pt", "-o", "compressed.pt", "--mode", "int4_asym", "--group-size", "4",
       "--all-layers"},
      with(kQuantize, {"--form", "lowered", "--stats-out", "stats.pt"}),
      {"tsquant", "quantize", "model.pt", "--data", "data.pt", "--inputs", "x", "-o", "reference.pt", "--form",
       "reference"},
      {"tsquant", "quantize", "model.pt", "--data", "data.pt", "--inputs", "x", "-o", "lowered.pt"}};
  for (const auto& command : commands) {
    if (run_forked(command, folder.string()) != 0) {
      throw std::runtime_error("a command on sound files failed: " + read_file((folder / "stderr.txt").string()));
    }
  }
  fs::remove(folder / "out.pt");
}

/// What is wrong with the end of a run; empty: nothing.
std::string complaint(int code, const std::set<int>& codes, const fs::path& folder,
                      const std::set<std::string>& known) {
  if (code == -SIGALRM) return "hangs";
  if (code < 0) return fmt::format("died of signal {}", -code);
  const std::string text = read_file((folder / "stderr.txt").string());
  if (codes.count(code) == 0) return fmt::format("exit code {}: {}", code, text.substr(0, 300));
  for (const char* inside :
       {"internal error", "please report", "frame #", "INTERNAL ASSERT", "json.exception", "enforce fail"}) {
    if (text.find(inside) != std::string::npos) return fmt::format("says \"{}\": {}", inside, text.substr(0, 300));
  }
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (known.count(name) == 0 && (name != "out.pt" || code != 0)) return "leaves " + name;
  }
  return "";
}

struct Options {
  int64_t cases = 2000, seed = 1, first = 0, step = 1;
  std::string keep;
};

/// @return how many cases went wrong
int run_cases(const Options& options, const fs::path& folder) {
  const std::vector<Target> readers = targets();
  std::set<std::string> known = {"bad", "stdout.txt", "stderr.txt"};
  for (const auto& entry : fs::directory_iterator(folder)) known.insert(entry.path().filename().string());
  int wrong = 0;
  for (int64_t i = options.first; i < options.cases; i += options.step) {
    Random random(static_cast<uint64_t>(options.seed) * 1000003 + static_cast<uint64_t>(i));
    const Target& target = readers[static_cast<size_t>(i) % readers.size()];
    const Arguments& command = target.commands[random() % target.commands.size()];
    write_file(folder / "bad", mutate((folder / target.file).string(), random));
    const int code = run_forked(command, folder.string());
    const std::string what = complaint(code, target.codes, folder, known);
    if (!what.empty()) {
      ++wrong;
      fmt::print("case {}: {} damaged, {}: {}\n", i, target.file, command[1], what);
      if (!options.keep.empty()) fs::copy_file(folder / "bad", fmt::format("{}/{}_{}", options.keep, i, target.file));
    }
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (known.count(entry.path().filename().string()) == 0) fs::remove_all(entry.path());
    }
  }
  return wrong;
}

/// Two processes share the cases.
int run(const Options& options) {
  constexpr int kWorkers = 2;
  at::set_num_threads(1);
  std::vector<pid_t> workers;
  for (int worker = 0; worker < kWorkers; ++worker) {
    const pid_t child = fork();
    if (child == 0) {
      const fs::path folder = fs::temp_directory_path() / fmt::format("tsquant_mutate_{}", getpid());
      fs::create_directories(folder);
      Options part = options;
      part.first = worker;
      part.step = kWorkers;
      int wrong = 1;
      try {
        make_seeds(folder);
        wrong = run_cases(part, folder);
      } catch (const std::exception& error) {
        fmt::print("{}\n", error.what());
      }
      fs::remove_all(folder);
      fflush(nullptr);
      _exit(wrong == 0 ? 0 : 1);
    }
    workers.push_back(child);
  }
  int failed = 0;
  for (const pid_t worker : workers) {
    int status = 0;
    waitpid(worker, &status, 0);
    failed += status != 0;
  }
  fmt::print("{} cases with seed {}: {}\n", options.cases, options.seed, failed == 0 ? "all as documented" : "FAILED");
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tsquant::fuzz

int main(int argc, char** argv) {
  tsquant::fuzz::Options options;
  CLI::App app("Damages inputs of tsquant");
  app.add_option("--cases", options.cases, "How many");
  app.add_option("--seed", options.seed, "Which");
  app.add_option("--keep", options.keep, "Folder for the damaged files that went wrong")->check(CLI::ExistingDirectory);
  CLI11_PARSE(app, argc, argv);
  return tsquant::fuzz::run(options);
}
