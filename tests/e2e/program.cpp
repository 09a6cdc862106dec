#include "e2e/program.h"

#include <ATen/Parallel.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

#include "cli/dispatch.h"
#include "support/support.h"

namespace tsquant::testing {

namespace {

std::vector<char*> argv_of(std::vector<std::string>& words) {
  words.insert(words.begin(), std::string(TSQUANT_BIN_DIR) + "/tsquant");
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  return argv;
}

void write_to(const std::string& out, const std::string& err) {
  dup2(open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDOUT_FILENO);
  dup2(open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
}

/// The program in a copy of this process, in which LibTorch is loaded already: that takes longer than most commands.
pid_t start_copy(std::vector<std::string> words, const std::string& out, const std::string& err) {
  auto argv = argv_of(words);
  at::set_num_threads(1);  // a copy has none of the threads of the original
  std::fflush(nullptr);    // and would write what it finds in the buffers
  const pid_t child = fork();
  if (child != 0) return child;
  write_to(out, err);
  const int code = cli::dispatch(static_cast<int>(argv.size()) - 1, argv.data());
  fflush(nullptr);
  _exit(code);
}

pid_t start(std::vector<std::string> words, const std::string& out, const std::string& err, int threads = 1,
            const std::function<void()>& prepare = {}) {
  const auto argv = argv_of(words);
  const pid_t child = fork();
  if (child != 0) return child;
  setenv("OMP_NUM_THREADS", std::to_string(threads).c_str(), 1);
  write_to(out, err);
  if (prepare) prepare();
  execv(argv[0], argv.data());
  _exit(127);
}

/// Whether the process has installed its handler (bit 1 of SigCgt is signal 2).
bool catches_interrupt(pid_t child) {
  std::ifstream status("/proc/" + std::to_string(child) + "/status");
  std::string word, mask;
  while (status >> word) {
    if (word != "SigCgt:") continue;
    status >> mask;
    return (std::stoull(mask, nullptr, 16) & 2) != 0;
  }
  return false;
}

Outcome finish(pid_t child, const std::string& out, const std::string& err) {
  int status = 0;
  waitpid(child, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), bytes_of(out), bytes_of(err)};
}

torch::jit::Module conv_unit(int64_t in, int64_t out) {
  return define(
      "def forward(self, x):\n"
      "  x = torch.conv2d(x, self.weight, None, [1, 1], [1, 1])\n"
      "  return torch.batch_norm(x, self.gamma, self.beta, self.mean, self.var, False, 0.1, 1e-5, False)\n",
      {{"weight", at::randn({out, in, 3, 3}) * 0.2},
       {"gamma", at::rand({out}) + 0.5},
       {"beta", at::randn({out}) * 0.1},
       {"mean", at::randn({out}) * 0.1},
       {"var", at::rand({out}) + 0.5}});
}

void save_data(const std::string& path, const at::Tensor& images, const at::Tensor& labels) {
  torch::jit::Module data("Data");
  data.register_buffer("images", images);
  data.register_buffer("labels", labels);
  data.save(path);
}

}  // namespace

Outcome tsquant(const std::vector<std::string>& arguments, int threads) {
  const std::string folder = temp_dir(), out = folder + "/out", err = folder + "/err";
  // The demo starts commands of the program by /proc/self/exe, which in a copy would be the tests.
  const bool fresh = threads != 1 || (!arguments.empty() && arguments.front() == "demo");
  return finish(fresh ? start(arguments, out, err, threads) : start_copy(arguments, out, err), out, err);
}

Outcome tsquant_prepared(const std::vector<std::string>& arguments, const std::function<void()>& prepare) {
  const std::string folder = temp_dir(), out = folder + "/out", err = folder + "/err";
  return finish(start(arguments, out, err, 1, prepare), out, err);
}

Outcome tsquant_interrupted(const std::vector<std::string>& arguments, double after_seconds, int signal) {
  const std::string folder = temp_dir();
  const pid_t child = start(arguments, folder + "/out", folder + "/err");
  for (int i = 0; i < 1000 && !catches_interrupt(child); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::this_thread::sleep_for(std::chrono::duration<double>(after_seconds));
  kill(child, signal);
  return finish(child, folder + "/out", folder + "/err");
}

void write_small_model(const std::string& folder) {
  torch::manual_seed(3);
  // One after the other: compilers draw the numbers of several arguments, or of both operands of *, in their own order.
  const auto stem = conv_unit(3, 8), block = conv_unit(8, 8);
  auto model = define(
      "def forward(self, x):\n"
      "  x = torch.relu(self.stem.forward(x))\n"
      "  x = torch.relu(self.block.forward(x) + x)\n"
      "  x = torch.flatten(torch.adaptive_avg_pool2d(x, [1, 1]), 1)\n"
      "  return torch.linear(x, self.weight, self.bias)\n",
      {{"weight", at::randn({5, 8})}, {"bias", at::zeros({5})}}, {{"stem", stem}, {"block", block}});
  model.save(folder + "/model.pt");
  const auto brightness = at::rand({24, 3, 1, 1});
  const auto images = at::randn({24, 3, 16, 16}) * brightness * 4;
  save_data(folder + "/data.pt", images, model.forward({images}).toTensor().argmax(1));
}

void write_large_model(const std::string& folder) {
  torch::manual_seed(4);
  auto model = define(
      "def forward(self, x):\n"
      "  x = torch.relu(torch.linear(x, self.a))\n"
      "  x = torch.relu(torch.linear(x, self.b))\n"
      "  return torch.linear(x, self.c)\n",
      {{"a", at::randn({1024, 256}) / 16}, {"b", at::randn({1024, 1024}) / 32}, {"c", at::randn({8, 1024}) / 32}});
  model.save(folder + "/large.pt");
  save_data(folder + "/rows.pt", at::randn({20000, 256}), at::zeros({20000}, c10::kLong));
}

std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace tsquant::testing
