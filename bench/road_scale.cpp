// How does the road from model.pt to model_int8.pt grow with the model? Residual blocks (convolution, batch norm, relu,
// addition) with 100, 1,000 and 10,000 operators, tiny tensors and two samples: flat, as torch.jit.trace writes
// nn.Sequential (every module a class of its own), and as a deep tree of scripted modules that share classes, with
// checks and in-place activations; and a chain of concatenations that read one another. usage: bench_road_scale
// [--largest=10000] [--form=reference|lowered] [--filter=traced] [--rewrites] [--check]: with --rewrites every rewrite
// of the graph has a line, too. The table says where the time per operator of the passes or of placement grows by more
// than 1.3 from one size to the next, or that of the whole road by more than 1.6: most of it runs LibTorch's
// interpreter, reader and writer, which find the small models in the caches of the processor. With --check the exit
// code is 1 then; on a machine that does other work at the same time that says little.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <torch/script.h>
#include <tsquant/quantize_pt2e.h>
#include <tsquant/tsquant.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using torch::jit::Module;

constexpr double kGrowthLimit = 1.3, kRoadGrowthLimit = 1.6;
/// Rewrites are a part of their phases: before their names in the table.
const std::string kRewrite = "rewrite:";
constexpr int64_t kChannels = 4, kOperatorsPerBlock = 4, kSamples = 2;

Module make_module(const std::string& name) {
  Module module(c10::QualifiedName("__torch__." + name));
  module.register_attribute("training", c10::BoolType::get(), false);
  return module;
}

void add_convolution(Module& block) {
  block.register_parameter("weight", at::randn({kChannels, kChannels, 3, 3}) * 0.1, false);
  block.register_parameter("bias", at::randn({kChannels}) * 0.1, false);
}

/// Adds little to the residual, so that thousands of blocks do not make the values grow beyond all bounds.
void add_batch_norm(Module& block) {
  block.register_parameter("gamma", at::rand({kChannels}) * 1e-3, false);
  block.register_parameter("beta", at::randn({kChannels}) * 1e-3, false);
  block.register_buffer("mean", at::randn({kChannels}) * 0.1);
  block.register_buffer("variance", at::rand({kChannels}) + 0.5);
}

/// As a trace has it: constants are written out, and every module has its own class.
Module traced_block(int64_t index) {
  Module convolution = make_module(fmt::format("Conv_{}", index)), norm = make_module(fmt::format("Norm_{}", index));
  add_convolution(convolution);
  add_batch_norm(norm);
  convolution.define(
      "def forward(self, x):\n"
      "    return torch._convolution(x, self.weight, self.bias, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, False, "
      "False, "
      "True, True)\n");
  norm.define(
      "def forward(self, x):\n"
      "    return torch.batch_norm(x, self.gamma, self.beta, self.mean, self.variance, False, 0.1, 1e-5, True)\n");
  Module block = make_module(fmt::format("Block_{}", index));
  block.register_module("conv", convolution);
  block.register_module("norm", norm);
  block.define(
      "def forward(self, x):\n"
      "    y = torch.relu(self.norm.forward(self.conv.forward(x)))\n"
      "    return torch.add(x, y, alpha=1)\n");
  return block;
}

/// Calls all children one after the other.
void call_children(Module& parent, size_t children) {
  std::string code = "def forward(self, x):\n";
  for (size_t i = 0; i < children; ++i) code += fmt::format("    x = self.m{}.forward(x)\n", i);
  parent.define(code + "    return x\n");
}

Module traced(int64_t operators) {
  Module root = make_module("Traced");
  const auto blocks = static_cast<size_t>(operators / kOperatorsPerBlock);
  for (size_t i = 0; i < blocks; ++i)
    root.register_module(fmt::format("m{}", i), traced_block(static_cast<int64_t>(i)));
  call_children(root, blocks);
  return root;
}

/// As torch.jit.script has it: values that say what the module is are attributes.
Module scripted_block() {
  Module block = make_module("ScriptedBlock");
  add_convolution(block);
  add_batch_norm(block);
  block.register_attribute("stride", c10::ListType::ofInts(), c10::List<int64_t>({1, 1}));
  block.register_attribute("eps", c10::FloatType::get(), 1e-5);
  block.define(
      "def forward(self, x):\n"
      "    assert x.dim() == 4, 'expected 4 dimensions'\n"
      "    y = torch.conv2d(x, self.weight, self.bias, self.stride, [1, 1], [1, 1], 1)\n"
      "    if self.training:\n"
      "        y = y * 2\n"
      "    y = torch.batch_norm(y, self.gamma, self.beta, self.mean, self.variance, self.training, 0.1, self.eps, "
      "True)\n"
      "    y = torch.relu_(y)\n"
      "    return torch.add(x, y, alpha=1)\n");
  return block;
}

/// Ten children per module, with the blocks at the leaves. All leaves share one class, and so do the modules of a
/// level.
Module scripted(int64_t operators) {
  constexpr size_t kFan = 10;
  const auto wanted = static_cast<size_t>(operators / kOperatorsPerBlock);
  const Module leaf = scripted_block();
  std::vector<Module> level;
  for (size_t i = 0; i < wanted; ++i) {
    Module copy = leaf.copy();
    for (const char* name : {"weight", "bias"}) copy.setattr(name, leaf.attr(name).toTensor().clone());
    level.push_back(copy);
  }
  for (int depth = 0; level.size() > 1; ++depth) {
    std::vector<Module> above;
    for (size_t begin = 0; begin < level.size(); begin += kFan) {
      const size_t count = std::min(kFan, level.size() - begin);
      Module parent = make_module(fmt::format("Level{}_{}", depth, above.size()));
      for (size_t i = 0; i < count; ++i) parent.register_module(fmt::format("m{}", i), level[begin + i]);
      call_children(parent, count);
      above.push_back(parent);
    }
    level = above;
  }
  return level.front();
}

/// x = cat(x[:, :3], conv(x)) again and again: every convolution reads the concatenation before it.
Module concatenations(int64_t operators) {
  Module root = make_module("Concatenations");
  std::string code = "def forward(self, x):\n";
  for (int64_t i = 0; i < operators / 3; ++i) {
    root.register_parameter(fmt::format("w{}", i), at::randn({1, kChannels, 1, 1}) * 0.3, false);
    code += fmt::format("    x = torch.cat([torch.slice(x, 1, 0, 3), torch.conv2d(x, self.w{})], 1)\n", i);
  }
  root.define(code + "    return torch.relu(x)\n");
  return root;
}

tsquant::Dataset samples() {
  return tsquant::Dataset(kSamples, [](int64_t index) {
    tsquant::Sample sample;
    sample.args.emplace_back(at::sin(at::arange(kChannels * 16).view({1, kChannels, 4, 4}) * (1.7 + 0.1 * index)));
    return sample;
  });
}

using Seconds = std::map<std::string, double>;

class Clock {
 public:
  explicit Clock(Seconds& seconds) : seconds_(seconds) {}
  template <typename Work>
  auto operator()(const std::string& phase, const Work& work) {
    const auto begin = std::chrono::steady_clock::now();
    auto result = work();
    seconds_[phase] += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return result;
  }

 private:
  Seconds& seconds_;
};

struct Options {
  int64_t largest = 10000;
  tsquant::OutputForm form = tsquant::OutputForm::kReference;
  std::string filter;
  bool rewrites = false;
  bool check = false;
};

/// The whole road once: seconds by phase.
Seconds travel(const std::string& folder, const Options& options) {
  Seconds seconds;
  Clock clock(seconds);
  auto model = clock("load", [&] { return tsquant::Model::load(folder + "/model.pt"); });
  tsquant::OpenVINOQuantizer quantizer;
  tsquant::QuantizePt2eOptions quantize_options;
  quantize_options.form = options.form;
  auto result = tsquant::quantize_pt2e(model, quantizer, samples(), quantize_options);
  clock("save", [&] {
    result.save(folder + "/model_int8.pt");
    return true;
  });
  for (const auto& phase : result.report.phases) seconds[phase.name] += phase.seconds;
  if (!options.rewrites) return seconds;
  for (const auto& rewrite : result.report.rewrites) seconds[kRewrite + rewrite.name] += rewrite.seconds;
  return seconds;
}

using Maker = std::function<Module(int64_t operators)>;

/// The fastest of several runs, phase by phase, in a process of its own: what other models left in the heap does not
/// count.
Seconds measure_apart(const Maker& make, int64_t operators, const Options& options) {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("no pipe");
  std::cout.flush();
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("no process");
  if (child == 0) {
    at::set_num_threads(1);
    const std::string folder =
        fmt::format("{}/road_scale_{}", std::filesystem::temp_directory_path().string(), getpid());
    std::filesystem::create_directories(folder);
    make(operators).save(folder + "/model.pt");
    Seconds best;
    const int64_t runs = std::max<int64_t>(3, std::min<int64_t>(10, 3000 / operators));
    for (int64_t run = 0; run < runs; ++run) {
      for (const auto& [phase, seconds] : travel(folder, options)) {
        best[phase] = best.count(phase) ? std::min(best[phase], seconds) : seconds;
      }
    }
    std::filesystem::remove_all(folder);
    std::string text;
    for (const auto& [phase, seconds] : best) text += fmt::format("{} {}\n", phase, seconds);
    _exit(write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  close(ends[1]);
  Seconds seconds;
  FILE* lines = fdopen(ends[0], "r");
  char phase[64];
  for (double value = 0; fscanf(lines, "%63s %lf", phase, &value) == 2;) seconds[phase] = value;
  fclose(lines);
  int status = 0;
  waitpid(child, &status, 0);
  if (status != 0 || seconds.empty()) throw std::runtime_error(fmt::format("{} operators failed", operators));
  double road = 0;
  for (const auto& [phase, value] : seconds) road += phase.rfind(kRewrite, 0) == 0 ? 0 : value;
  seconds["road"] = road;
  return seconds;
}

double limit_of(const std::string& phase) {
  if (phase == "passes" || phase == "annotate") return kGrowthLimit;
  return phase == "road" ? kRoadGrowthLimit : 0;
}

/// Prints microseconds per operator and the growth from one size to the next. @return whether it stays in the limits
bool scales(const std::string& name, const Maker& make, const Options& options) {
  if (name.find(options.filter) == std::string::npos) return true;
  std::vector<int64_t> sizes;
  for (int64_t size = 100; size <= options.largest; size *= 10) sizes.push_back(size);
  std::vector<Seconds> measured;
  for (const int64_t size : sizes) measured.push_back(measure_apart(make, size, options));
  fmt::print("{}: microseconds per operator with {} operators, and growth\n", name, fmt::join(sizes, ", "));
  bool held = true;
  for (const auto& entry : measured.back()) {
    const std::string& phase = entry.first;
    std::string line = fmt::format("  {:40}", phase), growth;
    double before = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      const double now = measured[i][phase] / static_cast<double>(sizes[i]) * 1e6;
      line += fmt::format("{:10.1f}", now);
      const double limit = limit_of(phase);
      const bool exceeds = i > 0 && limit > 0 && now > limit * before;
      if (i > 0) growth += fmt::format("{:8.2f}{}", now / before, exceeds ? fmt::format(" EXCEEDS {}", limit) : "");
      held = held && !exceeds;
      before = now;
    }
    fmt::print("{}  {}\n", line, growth);
  }
  return held;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i], value = argument.substr(argument.find('=') + 1);
    if (argument.rfind("--largest=", 0) == 0) {
      options.largest = std::stoll(value);
    } else if (argument.rfind("--filter=", 0) == 0) {
      options.filter = value;
    } else if (argument == "--rewrites") {
      options.rewrites = true;
    } else if (argument == "--check") {
      options.check = true;
    } else if (argument == "--form=lowered") {
      options.form = tsquant::OutputForm::kLowered;
    } else if (argument != "--form=reference") {
      std::cerr << "unknown argument " << argument << "\n";
      return 2;
    }
  }
  bool held = scales("traced", traced, options);
  held &= scales("scripted", scripted, options);
  held &= scales("concatenations", concatenations, options);
  return held || !options.check ? 0 : 1;
}
