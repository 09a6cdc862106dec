#include "lowering/engines/cost_rates.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "lowering/engines/lowering_context.h"

namespace tsquant {

namespace {

constexpr int kRuns = 15;

/// Seconds of the fastest of several runs; one warms up.
double fastest(const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  work();
  double best = 1e9;
  for (int i = 0; i < kRuns; ++i) {
    const auto begin = Clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

/// A 3x3 convolution in float and on codes: seconds for a thousand multiply-adds.
struct ConvolutionTimes {
  double floats, codes;
};

ConvolutionTimes time_convolution(int64_t channels, int64_t size, int64_t groups) {
  const at::Tensor x = at::rand({1, channels, size, size});
  const at::Tensor weight = at::randint(-127, 128, {channels, channels / groups, 3, 3}, at::kChar);
  const at::Tensor w = weight.to(at::kFloat);
  const at::Tensor codes = call_operator("tsquant::quantize", {x, 1.0 / 255, 0, at::kQUInt8}).toTensor();
  const std::vector<int64_t> ones = {1, 1}, none = {0, 0};
  const c10::IValue params =
      call_operator("tsquant::conv_pack", {weight, at::full({1}, 0.01f), c10::IValue(), ones, ones, ones, none, groups,
                                           false, c10::IValue(), c10::IValue()});
  const double thousands = static_cast<double>(channels * size * size * channels / groups * 9) / 1000;
  return {fastest([&] {
            at::conv2d(x, w, {}, {1, 1}, {1, 1}, {1, 1}, groups);
          }) / thousands,
          fastest([&] {
            call_operator("tsquant::conv", {codes, params, 1.0, 0});
          }) / thousands};
}

}  // namespace

double layer_cost(const CostRates& rates, double products, bool is_depthwise, bool on_codes) {
  if (is_depthwise) return products * (on_codes ? rates.int8_channel : rates.float_channel);
  return products * (on_codes ? rates.int8_macs : 1);
}

// Printed by bench_lowering_costs on a Zen 5 processor, one row per instruction set, LibTorch limited to the same one;
// the row sse4 on a Xeon of the fourth generation. The sums and products of the row avx2 have become faster since:
// their rate is less by the share that it is on Zen 3. Plain C++ has no row: where a processor has no SSE4.1,
// everything is slower on codes (2.1 for a dense layer), and a row for it would leave every file in float on every
// machine.
const std::vector<CostRates>& cost_table() {
  static const std::vector<CostRates> table = {
      {"sse4", 0.32, 2.6, 5.9, 7.1, 6.9, 19.5, 2.1},         {"avx2", 0.59, 5.6, 1.9, 7.0, 9.7, 37.0, 2.8},
      {"avx512", 0.54, 7.7, 2.1, 12.0, 18.0, 59.0, 4.6},     {"avxvnni", 0.24, 5.5, 1.2, 6.3, 9.4, 33.0, 2.5},
      {"avx512vnni", 0.21, 8.6, 2.3, 11.0, 16.0, 55.0, 4.3},
  };
  return table;
}

const CostRates& rates_here() {
  const auto& table = cost_table();
  const c10::IValue names = call_operator("tsquant::isas", {});
  for (size_t i = names.toListRef().size(); i-- > 0;) {
    const std::string& isa = names.toListRef()[i].toStringRef();
    const auto row =
        std::find_if(table.begin(), table.end(), [&](const CostRates& rates) { return rates.target == isa; });
    if (row != table.end()) return *row;
  }
  return table.front();
}

double measure_unit() { return time_convolution(64, 28, 1).floats; }

CostRates measure_costs() {
  const ConvolutionTimes dense = time_convolution(64, 28, 1), channel = time_convolution(64, 28, 64);
  const at::Tensor a = at::rand({1, 64, 56, 56}), b = at::rand({1, 64, 56, 56});
  const auto quantized = [](const at::Tensor& x) {
    return call_operator("tsquant::quantize", {x, 1.0 / 255, 0, at::kQUInt8}).toTensor();
  };
  const at::Tensor codes_a = quantized(a), codes_b = quantized(b);
  const double unit = dense.floats, thousands = static_cast<double>(a.numel()) / 1000;
  const auto values = [&](const std::function<void()>& work) { return fastest(work) / thousands / unit; };
  CostRates rates{};
  rates.target = "this machine";
  rates.int8_macs = dense.codes / unit;
  rates.float_channel = channel.floats / unit;
  rates.int8_channel = channel.codes / unit;
  rates.float_values = values([&] { at::add(a, b); });
  rates.int8_values = values([&] { call_operator("tsquant::add", {codes_a, codes_b, false, 0.01, 0}); });
  rates.quantize = values([&] { quantized(a); });
  rates.dequantize = values([&] { call_operator("tsquant::dequantize", {codes_a}); });
  return rates;
}

}  // namespace tsquant
