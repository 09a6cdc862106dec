#include "run/tap_runner.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "graph/node_lists.h"
#include "run/direct_run.h"
#include "support/support.h"
#include "tsquant/error.h"
#include "tsquant/load_mapped.h"

namespace tsquant::testing {
namespace {

TapPoint after(const Model& model, const char* kind, size_t index = 0) {
  return {nodes_of_kind(model.graph()->block(), {kind}).at(index)->output(), {nullptr, 0}};
}

TEST(TapRunner, FiresOncePerIterationOfALoop) {
  const Model model =
      Model::from(define("def forward(self, x):\n"
                         "    i = 0\n"
                         "    while i < 3:\n"
                         "        x = torch.mul(x, 2)\n"
                         "        i += 1\n"
                         "    return x\n"));
  std::vector<float> seen;
  const TapRunner runner(model, {after(model, "aten::mul")});
  const auto result =
      runner.run({{at::ones({1})}, {}}, [&](size_t, const at::Tensor& x) { seen.push_back(x.item<float>()); });
  EXPECT_EQ(seen, (std::vector<float>{2, 4, 8}));
  EXPECT_EQ(result.toTensor().item<float>(), 8);
}

TEST(TapRunner, AUseIsSeenWhenItIsReadAndAValueWhenItIsMade) {
  const Model model =
      Model::from(define("def forward(self, x):\n"
                         "    y = torch.add(x, 1)\n"
                         "    y.mul_(10)\n"
                         "    return torch.relu(y)\n"));
  auto* relu = nodes_of_kind(model.graph()->block(), {"aten::relu"}).at(0);
  const TapRunner runner(model, {after(model, "aten::add"), {relu->input(0), {relu, 0}}});
  std::map<size_t, float> seen;
  runner.run({{at::ones({1})}, {}}, [&](size_t tap, const at::Tensor& x) { seen[tap] = x.item<float>(); });
  EXPECT_EQ(seen[0], 2);
  EXPECT_EQ(seen[1], 20);
}

TEST(TapRunner, ArgumentsThatTheModelWritesIntoStayAsTheyWere) {
  for (const char* code :
       {"    x.sub_(1.0)\n    x.div_(0.5)\n    return x + 1\n",
        "    y = x.view([-1])\n    y.mul_(3)\n    return x + 1\n", "    x[0] = 5\n    return x + 1\n"}) {
    const Model model = Model::from(define(std::string("def forward(self, x):\n") + code));
    const Sample sample{{at::ones({3, 2})}, {}};
    const auto first = model.run(sample).toTensor(), second = TapRunner(model, {}).run(sample, {}).toTensor();
    EXPECT_TRUE(at::equal(first, second)) << code;
    EXPECT_FALSE(at::equal(first, at::full({3, 2}, 2.0f))) << code;
    EXPECT_TRUE(at::equal(sample.args[0].toTensor(), at::ones({3, 2}))) << code;
  }
}

TEST(TapRunner, StateStaysInTheRunner) {
  auto module = define(
      "def forward(self, x):\n"
      "    self.count.add_(1)\n"
      "    return x + self.count\n",
      {{"count", at::zeros({1})}});
  const Model model = Model::from(module);
  const TapRunner runner(model, {});
  EXPECT_EQ(runner.run({{at::zeros({1})}, {}}, {}).toTensor().item<float>(), 1);
  EXPECT_EQ(runner.run({{at::zeros({1})}, {}}, {}).toTensor().item<float>(), 2) << "samples follow each other";
  EXPECT_EQ(TapRunner(model, {}).run({{at::zeros({1})}, {}}, {}).toTensor().item<float>(), 1);
  EXPECT_EQ(module.attr("count").toTensor().item<float>(), 0) << "the caller's buffer was written";
}

TEST(TapRunner, ListsOfTheModelDoNotGrow) {
  torch::jit::Module module("__torch__.ListHolder");
  module.register_attribute("training", c10::BoolType::get(), false);
  module.register_attribute("seen", c10::ListType::ofInts(), c10::List<int64_t>());
  module.define("def forward(self, x):\n    self.seen.append(1)\n    return x + len(self.seen)\n");
  const Model model = Model::from(module);
  model.run({{at::zeros({1})}, {}});
  EXPECT_EQ(model.run({{at::zeros({1})}, {}}).toTensor().item<float>(), 1);
  EXPECT_EQ(module.attr("seen").toIntList().size(), 0u);
}

TEST(TapRunner, WrongArgumentsAreDatasetErrors) {
  const Model model = Model::from(define("def forward(self, x, n: int):\n    return torch.reshape(x, [n, -1])\n"));
  const TapRunner runner(model, {});
  const auto code_of = [&](const Sample& sample) {
    try {
      runner.run(sample, {});
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code_of({{at::ones({4})}, {}}), ErrorCode::kDataset) << "missing argument";
  EXPECT_EQ(code_of({{at::ones({4}), "two"}, {}}), ErrorCode::kDataset) << "wrong type";
  EXPECT_EQ(code_of({{at::ones({4}), 3}, {}}), ErrorCode::kDataset) << "the operator refuses";
  EXPECT_EQ(code_of({{at::ones({4})}, {{"m", 2}}}), ErrorCode::kDataset) << "unknown keyword";
  EXPECT_EQ(runner.run({{at::ones({4})}, {{"n", 2}}}, {}).toTensor().size(0), 2);
}

/// Bytes of a tensor's whole pages that this process has in memory.
int64_t resident_bytes(const at::Tensor& tensor) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(tensor.data_ptr()) + page - 1) / page;
  const auto end = (reinterpret_cast<uintptr_t>(tensor.data_ptr()) + tensor.nbytes()) / page;
  std::vector<uint64_t> entries(end - begin);
  const auto size = static_cast<ssize_t>(entries.size() * sizeof(uint64_t));
  const int pagemap = open("/proc/self/pagemap", O_RDONLY);
  EXPECT_EQ(
      pread(pagemap, entries.data(), entries.size() * sizeof(uint64_t), static_cast<off_t>(begin * sizeof(uint64_t))),
      size);
  close(pagemap);
  const auto present = std::count_if(entries.begin(), entries.end(), [](uint64_t entry) { return entry >> 63 != 0; });
  return static_cast<int64_t>(present) * static_cast<int64_t>(page);
}

TEST(DirectRun, WeightsOfAFileLeaveMemoryOnceTheyAreRead) {
  const std::string path = temp_dir() + "/model.pt";
  define("def forward(self, x):\n    return torch.matmul(torch.linear(x, self.a), self.b.t())\n",
         {{"a", at::randn({256, 256})}, {"b", at::randn({256, 256})}})
      .save(path);
  const Model model = load_mapped(path);
  const Sample sample{{at::randn({8, 256})}, {}};
  const auto resident = [&](const char* name) { return resident_bytes(model.module().attr(name).toTensor()); };
  const auto result = run_directly(model, sample, {});
  ASSERT_TRUE(result);
  for (const char* name : {"a", "b"}) EXPECT_GT(resident(name), 200 << 10) << name;
  const auto frugal = run_directly(model, sample, {}, WeightPages::kGiveBack);
  ASSERT_TRUE(frugal);
  EXPECT_TRUE(at::equal(frugal->toTensor(), result->toTensor()));
  for (const char* name : {"a", "b"}) EXPECT_EQ(resident(name), 0) << name;
}

TEST(TapRunner, WeightsOfAFileLeaveMemoryOnceTheyAreRead) {
  const std::string path = temp_dir() + "/model.pt";
  define(
      "def forward(self, x):\n"
      "    y = torch.linear(x, self.a)\n"
      "    if y.dim() == 2:\n"
      "        y = torch.matmul(y, self.b.t())\n"
      "    return y + torch.matmul(y, self.changed)\n",
      {{"a", at::randn({256, 256})}, {"b", at::randn({256, 256})}, {"changed", at::randn({256, 256})}})
      .save(path);
  const Model model = load_mapped(path);
  const auto weight = [&](const char* name) { return model.module().attr(name).toTensor(); };
  {
    const at::NoGradGuard no_grad;
    weight("changed").mul_(2);
  }
  const Sample sample{{at::randn({8, 256})}, {}};
  const auto result = TapRunner(model, {}).run(sample, {}).toTensor();
  for (const char* name : {"a", "b"}) EXPECT_GT(resident_bytes(weight(name)), 200 << 10) << name;
  const TapRunner frugal(model, {}, /*deterministic=*/false, WeightPages::kGiveBack);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(at::equal(frugal.run(sample, {}).toTensor(), result));
  for (const char* name : {"a", "b"}) EXPECT_EQ(resident_bytes(weight(name)), 0) << name;
  EXPECT_GT(resident_bytes(weight("changed")), 200 << 10) << "the file does not have its values";
}

}  // namespace
}  // namespace tsquant::testing
