// Threads that call forward of one module, whose operators pack their weights and plan their work at the first call.
// Built with ThreadSanitizer by scripts/sanitize.sh; elsewhere the results alone are compared.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/frontend/resolver.h>
#include <torch/csrc/jit/frontend/sugared_value.h>
#include <torch/script.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace {

using torch::jit::Module;

constexpr int kThreads = 4;

/// Source code calls our operators as tsquant.conv.
struct OperatorNames : torch::jit::Resolver {
  std::shared_ptr<torch::jit::SugaredValue> resolveValue(const std::string& name, torch::jit::GraphFunction& function,
                                                         const torch::jit::SourceRange& place) override {
    if (name == "tsquant") return std::make_shared<torch::jit::BuiltinModule>("tsquant");
    return torch::jit::nativeResolver()->resolveValue(name, function, place);
  }
};

c10::IValue call(const char* op, std::vector<c10::IValue> arguments) {
  c10::Dispatcher::singleton().findSchemaOrThrow((std::string("tsquant::") + op).c_str(), "").callBoxed(&arguments);
  return arguments.front();
}

at::Tensor codes(at::IntArrayRef sizes) { return at::randint(-127, 128, sizes, at::kChar); }

c10::IValue packed_conv(at::IntArrayRef weight, int64_t outputs, int64_t padding, int64_t groups = 1,
                        bool transposed = false) {
  const std::vector<int64_t> ones{1, 1}, around{padding, padding}, none{0, 0};
  return call("conv_pack", {codes(weight), at::full({outputs}, 0.002), at::randn({outputs}), ones, around, ones, none,
                            groups, transposed, c10::IValue(), c10::IValue()});
}

void add(Module& module, const char* name, const c10::IValue& value) {
  module.register_attribute(name, value.type(), value);
}

/// Dense, crossed, narrow, depthwise and transposed convolutions, sums, pooling, tables, attention, recurrence, layers
/// with compressed weights.
Module module_of_all_kernels() {
  Module module("concurrent");
  add(module, "dense", packed_conv({32, 8, 3, 3}, 32, 1));
  add(module, "wide", packed_conv({64, 64, 1, 1}, 64, 0));
  add(module, "narrow", packed_conv({64, 32, 1, 1}, 64, 0));
  add(module, "depthwise", packed_conv({64, 1, 3, 3}, 64, 1, 64));
  add(module, "transposed", packed_conv({64, 16, 2, 2}, 16, 0, 1, true));
  add(module, "linear",
      call("linear_pack", {codes({12, 16}), at::full({12}, 0.002), at::randn({12}), c10::IValue(), c10::IValue()}));
  add(module, "lstm",
      call("lstm_pack",
           {std::vector<at::Tensor>{at::randn({32, 12}), at::randn({32, 8}), at::randn({32}), at::randn({32})}, 1,
            false, true}));
  add(module, "compressed", codes({16, 8}));
  add(module, "scale", at::full({16, 1}, 0.01).to(at::kHalf));
  add(module, "table", at::randint(0, 256, {256}, at::kByte));
  module.define(R"(
def forward(self, x):
    q = tsquant.quantize(x, 0.03, 128, 13)
    a = tsquant.conv(q, self.dense, 0.1, 128)
    b = tsquant.conv(a, self.narrow, 0.2, 128)
    c = tsquant.conv_add(b, b, self.wide, 0.3, 128)
    d = tsquant.conv(c, self.depthwise, 0.3, 128)
    e = tsquant.add(tsquant.lookup(d, self.table, 0.3, 120), c, True, 0.4, 128)
    f = tsquant.max_pool(e, [2, 2], [2, 2], [0, 0], [1, 1], False)
    g = tsquant.conv(f, self.transposed, 0.5, 128)
    t = tsquant.mean(g, [2], False, 0.4, 128).transpose(1, 2)
    u = tsquant.attention(t, t.transpose(1, 2), t, [], 0.1, False, None, None, None, None, 0.4, 128)
    v = tsquant.linear_float(tsquant.cat([t, u], 1, 0.4, 128), self.linear)
    state = torch.zeros([1, v.size(0), 8])
    w, h, s = tsquant.lstm(v, [state, state], self.lstm)
    y = tsquant.linear_compressed(w, self.compressed, self.scale, None, None, "int8", 8, 8)
    return y + tsquant.linear_compressed_dynamic(w, self.compressed, self.scale, None, None, "int8", 8, 8)
)",
                std::make_shared<OperatorNames>());
  module.eval();
  return module;
}

at::Tensor forward(Module& module, const at::Tensor& x) {
  const c10::InferenceMode guard;
  return module.forward({x}).toTensor();
}

/// All begin together and at first with the same shapes, so that first calls meet. @return calls with another result
/// than one thread alone has
int wrong_results(Module& module, const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& wanted) {
  std::atomic<int> wrong{0}, ready{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      ++ready;
      while (ready < kThreads) std::this_thread::yield();
      for (size_t i = 0; i < 2 * inputs.size(); ++i) {
        const size_t k = i < inputs.size() ? i : (i + static_cast<size_t>(t)) % inputs.size();
        if (!at::equal(forward(module, inputs[k]), wanted[k])) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return wrong;
}

/// A copy with parameters of its own, which runs the same compiled graph: once that is there, first calls are as many
/// first calls of operators.
Module cold_copy(const Module& module) { return module.deepcopy(); }

TEST(ConcurrentForward, GivesWhatOneThreadGives) {
  constexpr int kRounds = 12;
  at::manual_seed(1);
  std::vector<at::Tensor> inputs;
  for (int64_t width = 4; width < 24; width += 2) inputs.push_back(at::randn({1, 8, 4, width}));
  const Module module = module_of_all_kernels();
  Module alone = cold_copy(module);
  std::vector<at::Tensor> wanted;
  for (const auto& x : inputs) wanted.push_back(forward(alone, x));
  for (int round = 0; round < kRounds; ++round) {
    Module shared = cold_copy(module);
    ASSERT_EQ(wrong_results(shared, inputs, wanted), 0) << round;
  }
}

}  // namespace
