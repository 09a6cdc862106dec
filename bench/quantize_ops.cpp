// How fast are quantize and dequantize against LibTorch's own? One thread; before timing, results are compared.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include "ops/quantize_kernels.h"
#include "ops/quantized_decomposed.h"

namespace {

namespace ours = tsquant::decomposed::cpu;

// Elements: a 7x7x512 map, a 3x224x224 image, a 64x112x112 map, a batch of 8 of those.
#define TSQUANT_SIZES ->Arg(25088)->Arg(150528)->Arg(802816)->Arg(6422528)->Unit(benchmark::kMicrosecond)

void finish(benchmark::State& state, const at::Tensor& result, const at::Tensor& expected) {
  if (!result.equal(expected)) state.SkipWithError("the results differ");
  state.SetItemsProcessed(state.iterations() * expected.numel());
}

template <class Run>
void time(benchmark::State& state, const at::Tensor& expected, const Run& run) {
  at::Tensor result;
  for (auto _ : state) benchmark::DoNotOptimize(result = run());
  finish(state, result, expected);
}

void quantize_aten(benchmark::State& state) {
  const at::Tensor x = at::randn({state.range(0)});
  const at::Tensor expected = ours::quantize_per_tensor(x, 0.02, 120, 0, 255, at::kByte);
  at::Tensor result;
  for (auto _ : state) benchmark::DoNotOptimize(result = at::quantize_per_tensor(x, 0.02, 120, at::kQUInt8));
  finish(state, result.int_repr(), expected);
}
void quantize_ours(benchmark::State& state) {
  const at::Tensor x = at::randn({state.range(0)});
  time(state, at::quantize_per_tensor(x, 0.02, 120, at::kQUInt8).int_repr(),
       [&] { return ours::quantize_per_tensor(x, 0.02, 120, 0, 255, at::kByte); });
}
BENCHMARK(quantize_aten) TSQUANT_SIZES;
BENCHMARK(quantize_ours) TSQUANT_SIZES;

void dequantize_aten(benchmark::State& state) {
  const at::Tensor q = at::quantize_per_tensor(at::randn({state.range(0)}), 0.02, 120, at::kQUInt8);
  time(state, ours::dequantize_per_tensor(q.int_repr(), 0.02, 120, 0, 255, at::kByte, c10::nullopt),
       [&] { return q.dequantize(); });
}
void dequantize_ours(benchmark::State& state) {
  const at::Tensor q = at::quantize_per_tensor(at::randn({state.range(0)}), 0.02, 120, at::kQUInt8);
  const at::Tensor codes = q.int_repr();
  time(state, q.dequantize(),
       [&] { return ours::dequantize_per_tensor(codes, 0.02, 120, 0, 255, at::kByte, c10::nullopt); });
}
BENCHMARK(dequantize_aten) TSQUANT_SIZES;
BENCHMARK(dequantize_ours) TSQUANT_SIZES;

/// A 3x3 convolution weight with as many output as input channels, quantized along `axis`.
struct Weight {
  explicit Weight(int64_t channels)
      : x(at::randn({channels, channels, 3, 3})),
        scales(at::rand({channels}) + 0.01f),
        zero_points(at::zeros({channels}, at::kLong)) {}
  at::Tensor x, scales, zero_points;
};

void quantize_channel_aten(benchmark::State& state) {
  const Weight w(state.range(0));
  const int64_t axis = state.range(1);
  const at::Tensor expected = ours::quantize_per_channel(w.x, w.scales, w.zero_points, axis, -128, 127, at::kChar);
  at::Tensor result;
  for (auto _ : state) {
    benchmark::DoNotOptimize(result = at::quantize_per_channel(w.x, w.scales, w.zero_points, axis, at::kQInt8));
  }
  finish(state, result.int_repr(), expected);
}
void quantize_channel_ours(benchmark::State& state) {
  const Weight w(state.range(0));
  const int64_t axis = state.range(1);
  time(state, at::quantize_per_channel(w.x, w.scales, w.zero_points, axis, at::kQInt8).int_repr(),
       [&] { return ours::quantize_per_channel(w.x, w.scales, w.zero_points, axis, -128, 127, at::kChar); });
}
void dequantize_channel_aten(benchmark::State& state) {
  const Weight w(state.range(0));
  const int64_t axis = state.range(1);
  const at::Tensor q = at::quantize_per_channel(w.x, w.scales, w.zero_points, axis, at::kQInt8);
  time(state,
       ours::dequantize_per_channel(q.int_repr(), w.scales, w.zero_points, axis, -128, 127, at::kChar, c10::nullopt),
       [&] { return q.dequantize(); });
}
void dequantize_channel_ours(benchmark::State& state) {
  const Weight w(state.range(0));
  const int64_t axis = state.range(1);
  const at::Tensor q = at::quantize_per_channel(w.x, w.scales, w.zero_points, axis, at::kQInt8), codes = q.int_repr();
  time(state, q.dequantize(), [&] {
    return ours::dequantize_per_channel(codes, w.scales, w.zero_points, axis, -128, 127, at::kChar, c10::nullopt);
  });
}
#define TSQUANT_WEIGHTS \
  ->ArgsProduct({{64, 512}, {0, 1}})->ArgNames({"channels", "axis"})->Unit(benchmark::kMicrosecond)
BENCHMARK(quantize_channel_aten) TSQUANT_WEIGHTS;
BENCHMARK(quantize_channel_ours) TSQUANT_WEIGHTS;
BENCHMARK(dequantize_channel_aten) TSQUANT_WEIGHTS;
BENCHMARK(dequantize_channel_ours) TSQUANT_WEIGHTS;

/// An RGB image from planes of floats to interleaved codes: what the first layer of a lowered model waits for.
void image_to_channels_last_aten(benchmark::State& state) {
  const at::Tensor x = at::randn({1, 3, 224, 224});
  for (auto _ : state) {
    at::Tensor q = at::quantize_per_tensor(x, 0.02, 120, at::kQUInt8).contiguous(at::MemoryFormat::ChannelsLast);
    benchmark::DoNotOptimize(q);
  }
}
void image_to_channels_last_ours(benchmark::State& state) {
  const at::Tensor x = at::randn({1, 3, 224, 224});
  at::Tensor codes = at::empty({224, 224, 3}, at::kByte);
  for (auto _ : state) {
    tsquant::quantize_interleave_u8(x.data_ptr<float>(), 3, 224 * 224, 224 * 224, tsquant::inverse_scale(0.02), 120, 0,
                                    255, 3, codes.data_ptr<uint8_t>());
  }
  const at::Tensor expected = at::quantize_per_tensor(x, 0.02, 120, at::kQUInt8).int_repr();
  finish(state, codes.permute({2, 0, 1}), expected[0]);
}
BENCHMARK(image_to_channels_last_aten)->Unit(benchmark::kMicrosecond);
BENCHMARK(image_to_channels_last_ours)->Unit(benchmark::kMicrosecond);

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  benchmark::AddCustomContext("instruction set", tsquant::quantize_kernel_target());
  benchmark::AddCustomContext("threads", "1");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
