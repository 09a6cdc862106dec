// Quantization-aware training in a process that is killed, and goes on from its checkpoint in another one.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <torch/csrc/jit/python/update_graph_executor_opt.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/optim.h>
#include <torch/script.h>
#include <torch/serialize.h>
#include <tsquant/fx/quantize_fx.h>
#include <tsquant/prepare_pt2e.h>
#include <tsquant/tsquant.h>
#include <tsquant/x86_inductor_quantizer.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "support/support.h"

namespace tsquant::testing::qat_resume {
namespace {

constexpr int64_t kSteps = 8;
constexpr const char* kRun = "TSQUANT_TEST_QAT_RUN";  // of a child: flow, moment, step, folder

/// What the process is doing when it is killed.
enum class Moment { kNever, kTraining, kWriting, kSaved };

struct Death {
  Moment moment = Moment::kNever;
  int64_t step = 0;
  void come(Moment now, int64_t at) const {
    if (moment == now && step == at) raise(SIGKILL);
  }
};

at::Tensor batch(int64_t step) {
  static const auto data = torch::jit::load(data_file("fx/qat_net.data.pt"));
  return data.attr("train" + std::to_string(step % 4)).toTensor();
}

torch::jit::Module prepared(const std::string& flow) {
  const auto model = Model::load(data_file("fx/qat_net.pt"));
  if (flow == "fx") return fx::prepare_qat_fx(model, fx::get_default_qat_qconfig_mapping("onednn"), {{batch(0)}, {}});
  X86InductorQuantizer quantizer;
  quantizer.set_global(get_default_x86_inductor_quantization_config(/*is_qat=*/true));
  return prepare_qat_pt2e(model, quantizer, {{batch(0)}, {}});
}

QuantizedModel converted(const std::string& flow, const torch::jit::Module& module) {
  if (flow == "fx") return fx::convert_to_reference_fx(module);
  ConvertPt2eOptions options;
  options.form = OutputForm::kReference;
  return convert_pt2e(module, options);
}

/// Operators one by one: LibTorch compiles a graph at its second call, and gradients then differ in the last digits.
class NotCompiled {
 public:
  NotCompiled() { torch::jit::setGraphExecutorOptimize(false); }
  ~NotCompiled() { torch::jit::setGraphExecutorOptimize(before_); }
  NotCompiled(const NotCompiled&) = delete;
  NotCompiled& operator=(const NotCompiled&) = delete;

 private:
  bool before_ = torch::jit::getGraphExecutorOptimize();
};

/// A loop that saves module and optimizer after each step, in one file that takes the place of the older one.
class Training {
 public:
  Training(const std::string& flow, std::string folder) : path_(std::move(folder) + "/checkpoint.pt") {
    torch::jit::ExtraFilesMap files{{"step", ""}, {"optimizer", ""}};
    const bool resumes = std::filesystem::exists(path_);
    module_ = resumes ? torch::jit::load(path_, at::kCPU, files) : prepared(flow);
    std::vector<at::Tensor> parameters;
    for (const auto& parameter : module_.parameters()) {
      if (parameter.requires_grad()) parameters.push_back(parameter);
    }
    optimizer_ = std::make_unique<torch::optim::Adam>(parameters, 0.01);
    if (!resumes) return;
    step_ = std::stoll(files.at("step"));
    std::istringstream state(files.at("optimizer"));
    torch::load(*optimizer_, state);
  }

  int64_t steps_done() const { return step_; }

  torch::jit::Module run(const Death& death) {
    const NotCompiled exactly;
    while (step_ < kSteps) {
      optimizer_->zero_grad();
      const at::Tensor out = module_.forward({batch(step_)}).toTensor();
      (out * at::linspace(-1, 1, out.size(1))).pow(2).mean().backward();
      optimizer_->step();
      death.come(Moment::kTraining, step_);
      save(death);
      death.come(Moment::kSaved, step_++);
    }
    return module_;
  }

 private:
  void save(const Death& death) const {
    std::ostringstream state, file;
    torch::save(*optimizer_, state);
    module_.save(file, {{"step", std::to_string(step_ + 1)}, {"optimizer", state.str()}});
    const std::string bytes = file.str();
    std::ofstream out(path_ + ".new", std::ios::binary);
    out << bytes.substr(0, bytes.size() / 2) << std::flush;
    death.come(Moment::kWriting, step_);
    out << bytes.substr(bytes.size() / 2);
    out.close();
    std::filesystem::rename(path_ + ".new", path_);
  }

  std::string path_;
  torch::jit::Module module_;
  std::unique_ptr<torch::optim::Adam> optimizer_;
  int64_t step_ = 0;
};

// The body of the child. A copy of a process cannot compute gradients, so it is this program, started anew.
TEST(QatResume, Child) {
  const char* set = std::getenv(kRun);
  if (set == nullptr) GTEST_SKIP() << "the other tests start it";
  std::istringstream words(set);
  std::string flow, folder;
  int moment = 0;
  Death death;
  words >> flow >> moment >> death.step >> folder;
  death.moment = static_cast<Moment>(moment);
  Training(flow, folder).run(death);
}

/// The signal that ended the child; 0: none did.
int train_in_child(const std::string& flow, const Death& death, const std::string& folder) {
  const std::string run = fmt::format("{} {} {} {}", flow, static_cast<int>(death.moment), death.step, folder);
  const pid_t child = fork();
  if (child == 0) {
    setenv(kRun, run.c_str(), 1);
    unsetenv("GTEST_TOTAL_SHARDS");
    execl("/proc/self/exe", "tests", "--gtest_filter=QatResume.Child", "--gtest_brief=1", nullptr);
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_FALSE(WIFEXITED(status) && WEXITSTATUS(status) != 0) << "the child failed";
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

void expect_same_bytes(const torch::jit::Module& actual, const torch::jit::Module& expected) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& entry : actual.named_parameters()) tensors[entry.name] = entry.value;
  for (const auto& entry : actual.named_buffers()) tensors[entry.name] = entry.value;
  size_t count = 0;
  const auto compare = [&](const std::string& name, const at::Tensor& value) {
    ++count;
    ASSERT_EQ(tensors.count(name), 1U) << name;
    EXPECT_TRUE(at::equal(tensors[name], value)) << name;
  };
  for (const auto& entry : expected.named_parameters()) compare(entry.name, entry.value);
  for (const auto& entry : expected.named_buffers()) compare(entry.name, entry.value);
  EXPECT_EQ(count, tensors.size());
  EXPECT_GT(count, 4U);
}

struct Case {
  const char* flow;
  Moment moment;
  int64_t left;  ///< steps of the checkpoint that the killed process leaves
};

std::string name_of(Moment moment) {
  if (moment == Moment::kTraining) return "Training";
  return moment == Moment::kWriting ? "Writing" : "Saved";
}

class QatKilled : public ::testing::TestWithParam<Case> {};

TEST_P(QatKilled, GoesOnToTheSameResult) {
  const auto& [flow, moment, left] = GetParam();
  const std::string folder = temp_dir();
  ASSERT_EQ(train_in_child(flow, {moment, 4}, folder), SIGKILL);
  Training resumed(flow, folder);
  ASSERT_EQ(resumed.steps_done(), left);
  const auto module = resumed.run({}), whole = Training(flow, temp_dir()).run({});
  expect_same_bytes(module, whole);
  const auto result = converted(flow, module), expected = converted(flow, whole);
  expect_same_bytes(result.model.module(), expected.model.module());
  EXPECT_TRUE(
      at::equal(result.model.run({{batch(0)}, {}}).toTensor(), expected.model.run({{batch(0)}, {}}).toTensor()));
}

TEST(QatResume, AProcessOfItsOwnTrainsToTheSameResult) {
  const std::string folder = temp_dir();
  ASSERT_EQ(train_in_child("fx", {}, folder), 0);
  Training trained("fx", folder);
  ASSERT_EQ(trained.steps_done(), kSteps);
  expect_same_bytes(trained.run({}), Training("fx", temp_dir()).run({}));
}

INSTANTIATE_TEST_SUITE_P(Moments, QatKilled,
                         ::testing::Values(Case{"fx", Moment::kTraining, 4}, Case{"fx", Moment::kWriting, 4},
                                           Case{"fx", Moment::kSaved, 5}, Case{"pt2e", Moment::kTraining, 4},
                                           Case{"pt2e", Moment::kWriting, 4}, Case{"pt2e", Moment::kSaved, 5}),
                         [](const auto& info) { return info.param.flow + name_of(info.param.moment); });

}  // namespace
}  // namespace tsquant::testing::qat_resume
