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

namespace {

namespace fs = std::filesystem;
using torch::jit::Module;

constexpr int64_t kTokens = 32000, kHeadSize = 64, kSamples = 4, kLength = 128;

const char* const kBlock = R"(
def attend(self, x: Tensor) -> Tensor:
    b, t = x.size(0), x.size(1)
    q = torch.linear(x, self.q_proj).view([b, t, -1, HEAD]).transpose(1, 2)
    k = torch.linear(x, self.k_proj).view([b, t, -1, HEAD]).transpose(1, 2)
    v = torch.linear(x, self.v_proj).view([b, t, -1, HEAD]).transpose(1, 2)
    share = q.size(1) // k.size(1)
    scores = torch.matmul(q, k.repeat_interleave(share, 1).transpose(2, 3)) * 0.125
    future = torch.triu(torch.ones([t, t], dtype=6, device=x.device), 1) * -10000.0
    y = torch.matmul(torch.softmax(scores + future, -1), v.repeat_interleave(share, 1))
    return torch.linear(y.transpose(1, 2).reshape([b, t, -1]), self.o_proj)

def norm(self, x: Tensor, gain: Tensor) -> Tensor:
    return x * torch.rsqrt(torch.mean(x * x, [-1], True) + 0.00001) * gain

def forward(self, x: Tensor) -> Tensor:
    x = x + self.attend(self.norm(x, self.attention_norm))
    y = self.norm(x, self.mlp_norm)
    y = torch.silu(torch.linear(y, self.gate_proj)) * torch.linear(y, self.up_proj)
    return x + torch.linear(y, self.down_proj)
)";

/// Weights that share one block of random numbers, each beginning elsewhere: as many records of the file as there are
/// weights, without memory for them.
class Weights {
 public:
  explicit Weights(int64_t largest) : numbers_(at::randn({largest + kShifts * kShift}) * 0.02) {}

  at::Tensor next(int64_t rows, int64_t columns) {
    float* begin = numbers_.data_ptr<float>() + next_++ % kShifts * kShift;
    return at::from_blob(begin, {rows, columns}, at::kFloat);
  }

 private:
  static constexpr int64_t kShifts = 4096, kShift = 16;
  at::Tensor numbers_;
  int64_t next_ = 0;
};

void write_model(const std::string& path, int64_t width, int64_t blocks) {
  at::manual_seed(1);
  Weights weights(kTokens * width);
  std::string code = kBlock;
  for (size_t at = 0; (at = code.find("HEAD")) != std::string::npos;) {
    code.replace(at, 4, std::to_string(kHeadSize));
  }
  Module model("__torch__.Llama");
  model.register_attribute("training", c10::BoolType::get(), false);
  model.register_parameter("embed_tokens", weights.next(kTokens, width), false);
  std::string forward = "def forward(self, ids: Tensor) -> Tensor:\n    x = torch.embedding(self.embed_tokens, ids)\n";
  for (int64_t i = 0; i < blocks; ++i) {
    Module block("__torch__.Block" + std::to_string(i));
    block.register_attribute("training", c10::BoolType::get(), false);
    const auto add = [&](const char* name, int64_t rows, int64_t columns) {
      block.register_parameter(name, weights.next(rows, columns), false);
    };
    add("q_proj", width, width);
    add("k_proj", width / 4, width);
    add("v_proj", width / 4, width);
    add("o_proj", width, width);
    add("gate_proj", 4 * width, width);
    add("up_proj", 4 * width, width);
    add("down_proj", width, 4 * width);
    block.register_parameter("attention_norm", at::ones({width}), false);
    block.register_parameter("mlp_norm", at::ones({width}), false);
    block.define(code);
    model.register_module("block" + std::to_string(i), block);
    forward += fmt::format("    x = self.block{}.forward(x)\n", i);
  }
  model.register_parameter("head", weights.next(kTokens, width), false);
  model.define(forward + "    return torch.linear(x, self.head)\n");
  model.save(path);
}

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
    write_model(model, width, blocks);
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
  std::string folder = (fs::temp_directory_path() / "tsquant_memory_XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return 1;
  int code = 0;
  try {
    measure(folder, argv[1], width, blocks);
  } catch (const std::exception& error) {
    fmt::print("{}\n", error.what());
    code = 1;
  }
  fs::remove_all(folder);
  return code;
}
