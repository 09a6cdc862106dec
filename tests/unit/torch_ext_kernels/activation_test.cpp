// Convolutions and linear layers that apply an activation before they quantize, against the same in three operators:
// float result, activation, quantize. All bits must be equal to those of the plain C++ form, on every instruction set,
// and to those of LibTorch's activation where the formula is LibTorch's own; a smooth function may differ by one code
// where a value lies on the boundary of two.
#include <gtest/gtest.h>
#include <torch/script.h>

#include "kernel_call.h"
#include "kernels/activation_step.h"
#include "targets.h"

namespace tsquant::testing {
namespace {

std::vector<ConvCase> activated_cases() {
  return {{"dense", {1, 16, 9, 11}, 32, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, false, 120},
          {"pointwise", {2, 24, 7, 7}, 48, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, false, 3},
          {"odd_channels", {1, 5, 6, 6}, 27, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 1, false, 9},
          {"winograd", {1, 32, 14, 14}, 32, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, false, 77},
          {"depthwise", {1, 40, 9, 13}, 40, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 40, false, 100},
          {"depthwise_5", {1, 16, 9, 9}, 16, {5, 5}, {2, 2}, {2, 2}, {1, 1}, 16, false, 1},
          {"depthwise_few", {1, 6, 5, 5}, 6, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 6, false, 0},
          {"grouped", {1, 12, 5, 5}, 8, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 4, false, 50},
          {"line", {1, 8, 20}, 12, {5}, {1}, {2}, {1}, 1, false, 128},
          {"transposed", {1, 8, 5, 5}, 20, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 1, true, 8}};
}

at::Tensor of_libtorch(const std::string& activation, const at::Tensor& x) {
  if (activation == "gelu") return at::gelu(x);
  if (activation == "gelu_tanh") return at::gelu(x, "tanh");
  torch::jit::Stack stack = {x};
  c10::Dispatcher::singleton().findSchemaOrThrow(("aten::" + activation).c_str(), "").callBoxed(&stack);
  return stack.at(0).toTensor();
}

std::vector<std::string> activations() {
  std::vector<std::string> names;
  const c10::IValue all = run_kernel("activations", {});
  for (const c10::IValue& name : all.toListRef()) names.push_back(name.toStringRef());
  return names;
}

bool same_codes(const at::Tensor& a, const at::Tensor& b) {
  return a.q_scale() == b.q_scale() && a.q_zero_point() == b.q_zero_point() &&
         at::equal(a.int_repr().contiguous(), b.int_repr().contiguous());
}

at::Tensor plain(const std::string& activation, const at::Tensor& x) {
  return kernels::ActivationStep(activation, {}, 1).apply(x, 0);
}

bool is_smooth(const std::string& activation) { return activation.rfind("hard", 0) != 0; }

/// Whether at most one code in a thousand, or one, differs, by one.
bool nearly_same_codes(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor difference = (a.int_repr().to(at::kInt) - b.int_repr().to(at::kInt)).abs();
  return difference.max().item<int>() <= 1 &&
         difference.sum().item<int64_t>() <= std::max<int64_t>(1, a.numel() / 1000);
}

/// Random data whose results lie in and around the range of the activations.
ConvData data_of(const ConvCase& c) {
  ConvData d = make_data(c);
  const double inputs = static_cast<double>(d.weight.numel()) / static_cast<double>(d.scales.numel());
  d.scales = at::rand({c.out}) * (0.02 / std::sqrt(inputs)) + 1e-4;
  d.bias = at::randn({c.out}) * 3;
  return d;
}

class Activated : public EveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, Activated, all_targets(), target_name);

TEST_P(Activated, ConvolutionEqualsThreeOperators) {
  torch::manual_seed(3);
  ASSERT_FALSE(activations().empty());
  for (const std::string& name : activations()) {
    for (const ConvCase& c : activated_cases()) {
      const ConvData d = data_of(c);
      const c10::IValue params = pack(c, d);
      const at::Tensor before = run_kernel("conv_float", {d.x, params}).toTensor();
      const at::Tensor y = plain(name, before);
      std::vector<int64_t> shape(c.kernel.size() + 1, 1);
      shape[0] = c.out;
      for (const bool with_factors : {false, true}) {
        const at::Tensor factors = at::rand({c.out}) + 0.25;
        const at::Tensor real = with_factors ? y * factors.reshape(shape) : y;
        const double scale = real.abs().max().item<double>() / 160;
        const at::Tensor want = run_kernel("quantize", {real, scale, 20, at::kQUInt8}).toTensor();
        const c10::IValue given = with_factors ? c10::IValue(factors) : c10::IValue();
        const at::Tensor got = run_kernel("conv", {d.x, params, name, given, scale, 20}, "activated").toTensor();
        EXPECT_TRUE(same_codes(got, want)) << name << " behind " << c.name << (with_factors ? " with factors" : "");
        const at::Tensor theirs =
            with_factors ? of_libtorch(name, before) * factors.reshape(shape) : of_libtorch(name, before);
        const at::Tensor codes = run_kernel("quantize", {theirs, scale, 20, at::kQUInt8}).toTensor();
        EXPECT_TRUE(is_smooth(name) ? nearly_same_codes(got, codes) : same_codes(got, codes)) << name << c.name;
        EXPECT_GT(want.int_repr().to(at::kFloat).std().item<float>(), 1) << "the data do not exercise the range";
      }
    }
  }
}

TEST_P(Activated, LinearEqualsThreeOperators) {
  torch::manual_seed(4);
  for (const std::string& name : activations()) {
    for (const int64_t out : {7, 16, 50}) {
      const at::Tensor x = random_codes({5, 24}, 0.05, 100);
      const c10::IValue params =
          run_kernel("linear_pack", {at::randint(-127, 128, {out, 24}, at::kChar), at::rand({out}) * 0.004 + 1e-4,
                                     at::randn({out}), c10::IValue(), c10::IValue()});
      const at::Tensor factors = at::rand({out}) + 0.25;
      const at::Tensor real = plain(name, run_kernel("linear_float", {x, params}).toTensor()) * factors;
      const double scale = real.abs().max().item<double>() / 200;
      const at::Tensor want = run_kernel("quantize", {real, scale, 15, at::kQUInt8}).toTensor();
      const at::Tensor got = run_kernel("linear", {x, params, name, factors, scale, 15}, "activated").toTensor();
      EXPECT_TRUE(same_codes(got, want)) << name << ", " << out;
    }
  }
}

TEST_P(Activated, BoundsComeBeforeTheActivationAndSignedCodesWork) {
  torch::manual_seed(5);
  const ConvCase c = activated_cases()[1];
  const ConvData d = data_of(c);
  const at::Tensor x = random_codes(c.input, 0.0625, -5, at::kQInt8);
  const c10::IValue params = pack(c, d, -1.0, 2.0);
  const at::Tensor y = of_libtorch("hardswish", run_kernel("conv_float", {x, params}).toTensor());
  const at::Tensor want = run_kernel("quantize", {y, 0.01, -90, at::kQInt8}).toTensor();
  const at::Tensor got = run_kernel("conv", {x, params, "hardswish", c10::IValue(), 0.01, -90}, "activated").toTensor();
  EXPECT_TRUE(same_codes(got, want));
}

TEST(SmoothActivations, LieWithinAFewUnitsOfLibTorchs) {
  const at::Tensor x =
      at::cat({at::linspace(-30, 30, 600001), at::linspace(-1e-3, 1e-3, 2001), at::tensor({0.0, -1e30, 1e30})})
          .to(at::kFloat);
  for (const std::string& name : activations()) {
    const at::Tensor got = plain(name, x), want = of_libtorch(name, x.to(at::kDouble)).to(at::kFloat);
    const at::Tensor allowed = x.abs().clamp_min(1) * 6e-7;
    EXPECT_TRUE(((got - want).abs() <= allowed).all().item<bool>()) << name << (got - want).abs().max();
    EXPECT_TRUE(plain(name, at::full({1}, NAN)).isnan().all().item<bool>()) << name;
  }
}

TEST(ActivatedErrors, SayWhatIsWrong) {
  const ConvCase c = activated_cases()[1];
  const ConvData d = data_of(c);
  const auto message = [&](const char* name, const c10::IValue& factors) -> std::string {
    try {
      run_kernel("conv", {d.x, pack(c, d), name, factors, 0.1, 0}, "activated");
    } catch (const c10::Error& e) {
      return e.what_without_backtrace();
    }
    return "no error";
  };
  EXPECT_NE(message("mish", {}).find("no activation \"mish\"; known are hardswish"), std::string::npos);
  EXPECT_NE(message("hardswish", at::ones({3})).find("one float32 for each of the 48"), std::string::npos);
}

}  // namespace
}  // namespace tsquant::testing
