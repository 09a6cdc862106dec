// How close the integer convolutions (rows of the kernel table, Winograd, few channels, depthwise) come to the
// arithmetic of the processor, and how they compare with LibTorch's float convolution (oneDNN, weights and input in its
// own layout). One thread. Every number is a ratio of times taken turn by turn in one run, so a busy machine disturbs
// both sides alike.
//   bench_conv_kernels [NAME-PART]   e.g. "first" or "3x3"
//   bench_conv_kernels --peak        billions of float multiply-adds per second in registers, the best of 20
// For float LibTorch on a smaller instruction set: ATEN_CPU_CAPABILITY=avx2 DNNL_MAX_CPU_ISA=AVX2
// ONEDNN_MAX_CPU_ISA=AVX2; TSQUANT_MAX_ISA=avx2 leaves out our own rows above it.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "kernels/depthwise_hwy.h"
#include "kernels/gemm_table.h"
#include "kernels/machine_rates.h"
#include "kernels/narrow_conv.h"
#include "kernels/packed_conv.h"
#include "kernels/winograd.h"

namespace {

using tsquant::kernels::ConvGeometry;
using tsquant::kernels::DepthwiseConv;
using tsquant::kernels::Epilogue;
using tsquant::kernels::GemmRow;
using tsquant::kernels::WinogradConv;

struct Shape {
  const char* name;
  int64_t channels, size, out, kernel, stride, pad, groups = 1;
};

const Shape kShapes[] = {
    {"first 3->64 7x7/2 224", 3, 224, 64, 7, 2, 3},
    {"first 3->32 3x3/2 224", 3, 224, 32, 3, 2, 1},
    {"64 3x3 56", 64, 56, 64, 3, 1, 1},
    {"128 3x3 28", 128, 28, 128, 3, 1, 1},
    {"256 3x3 14", 256, 14, 256, 3, 1, 1},
    {"512 3x3 7", 512, 7, 512, 3, 1, 1},
    {"128->256 3x3/2 28", 128, 28, 256, 3, 2, 1},
    {"1x1 64->256 56", 64, 56, 256, 1, 1, 0},
    {"1x1 256->64 56", 256, 56, 64, 1, 1, 0},
    {"1x1 256->512/2 56", 256, 56, 512, 1, 2, 0},
    {"1x1 1024->256 14", 1024, 14, 256, 1, 1, 0},
    {"1x1 32->16 112", 32, 112, 16, 1, 1, 0},
    {"1x1 16->96 112", 16, 112, 96, 1, 1, 0},
    {"1x1 96->24 56", 96, 56, 24, 1, 1, 0},
    {"1x1 24->144 56", 24, 56, 144, 1, 1, 0},
    {"1x1 72->40 28", 72, 28, 40, 1, 1, 0},
    {"1x1 40->240 14", 40, 14, 240, 1, 1, 0},
    {"1x1 184->80 14", 184, 14, 80, 1, 1, 0},
    {"1x1 576->96 14", 576, 14, 96, 1, 1, 0},
    {"1x1 160->960 7", 160, 7, 960, 1, 1, 0},
    {"1x1 960->320 7", 960, 7, 320, 1, 1, 0},
    {"depthwise 3x3 144 56", 144, 56, 144, 3, 1, 1, 144},
    {"depthwise 3x3/2 96 112", 96, 112, 96, 3, 2, 1, 96},
    {"depthwise 3x3 384 14", 384, 14, 384, 3, 1, 1, 384},
    {"depthwise 5x5 240 14", 240, 14, 240, 5, 1, 2, 240},
    {"depthwise 5x5 960 7", 960, 7, 960, 5, 1, 2, 960},
    {"groups 32x4 3x3 56", 128, 56, 128, 3, 1, 1, 32},
    {"linear 1x4096x4096", 4096, 1, 4096, 1, 1, 0},
    {"linear 1x512x1000", 512, 1, 1000, 1, 1, 0},
};

double seconds(const std::function<void()>& body, int64_t repeats) {
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < repeats; ++i) body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / static_cast<double>(repeats);
}

struct Problem {
  ConvGeometry geometry;
  at::Tensor source, weight, result, float_source, float_weight, float_bias;
  std::vector<float> multiplier, bias;
  const Shape& shape;

  explicit Problem(const Shape& s) : shape(s) {
    geometry.channels = s.channels;
    geometry.height = geometry.width = s.size;
    geometry.out_channels = s.out;
    geometry.groups = s.groups;
    geometry.kernel_h = geometry.kernel_w = s.kernel;
    geometry.stride_h = geometry.stride_w = s.stride;
    geometry.pad_h = geometry.pad_w = s.pad;
    source = at::randint(0, 256, {s.size * s.size * s.channels}, at::kByte);
    weight = at::randint(-127, 128, {s.out, s.channels / s.groups, s.kernel, s.kernel}, at::kChar);
    result = at::empty({geometry.out_pixels() * s.out}, at::kByte);
    multiplier.assign(static_cast<size_t>(s.out + Epilogue::kSlack), 1e-4f);
    bias.assign(multiplier.size(), 1.0f);
    const std::vector<int64_t> pad = {s.pad, s.pad}, stride = {s.stride, s.stride}, one = {1, 1};
    float_source = at::rand({1, s.channels, s.size, s.size}).to_mkldnn();
    float_weight = at::mkldnn_reorder_conv2d_weight(weight.to(at::kFloat).to_mkldnn(), pad, stride, one, s.groups);
    float_bias = at::rand({s.out}).to_mkldnn();
  }
  double products() const {
    return static_cast<double>(geometry.out_pixels() * geometry.taps() * geometry.channels / geometry.groups) *
           static_cast<double>(geometry.out_channels);
  }
  void run_float() const {
    at::conv2d(float_source, float_weight, float_bias, {shape.stride, shape.stride}, {shape.pad, shape.pad}, {1, 1},
               shape.groups);
  }
  std::vector<Epilogue> epilogues() {
    Epilogue e;
    e.multiplier = multiplier.data();
    e.bias = bias.data();
    e.codes = result.data_ptr<uint8_t>();
    e.zero_point = 3;
    e.pixel_stride = geometry.out_channels;
    return {e};
  }
};

struct Times {
  double row = 1e9, floats = 1e9, peak = 0;
};

Times measure(const Problem& p, const std::function<void()>& integers) {
  const auto floats = [&] { p.run_float(); };
  Times best;
  const int64_t repeats = std::max<int64_t>(1, static_cast<int64_t>(1e-3 / std::max(seconds(integers, 1), 1e-7)));
  for (int round = 0; round < 25; ++round) {
    best.row = std::min(best.row, seconds(integers, repeats));
    best.floats = std::min(best.floats, seconds(floats, repeats));
    best.peak = std::max(best.peak, tsquant::kernels::multiply_rate(/*codes=*/false));
  }
  return best;
}

void print(const Problem& p, const std::string& kernel, const Times& t) {
  fmt::print("{:24} {:16} {:10.1f} {:16.2f} {:16.2f}\n", p.shape.name, kernel, t.row * 1e6,
             t.peak > 0 ? p.products() / t.row / t.peak : 0.0, t.floats / t.row);
}

void bench_row(const GemmRow& row, Problem& p) {
  const auto phases = tsquant::kernels::phases_of(p.geometry);
  const tsquant::kernels::PackedConv packed(row, p.weight.data_ptr<int8_t>(), p.geometry, phases);
  const auto shape = packed.shape(p.geometry);
  const auto epilogues = p.epilogues();
  print(p, row.name, measure(p, [&] { packed.run(shape, p.source.data_ptr<uint8_t>(), 3, epilogues); }));
}

void bench_winograd(Problem& p) {
  if (!WinogradConv::supports(p.geometry, p.weight.data_ptr<int8_t>())) return;
  const auto epilogue = p.epilogues().front();
  for (const auto& kernel : tsquant::kernels::winograd_table()) {
    if (!kernel.supports()) continue;
    const WinogradConv conv(kernel, p.weight.data_ptr<int8_t>(), p.geometry);
    const std::string name = std::string("winograd ") + kernel.name;
    print(p, name, measure(p, [&] { conv.run(p.geometry, p.source.data_ptr<uint8_t>(), 3, epilogue); }));
  }
}

void bench_narrow(Problem& p) {
  const auto* kernel = tsquant::kernels::narrow_kernel(tsquant::kernels::best_gemm_row().isa);
  if (kernel == nullptr || !tsquant::kernels::NarrowConv::supports(p.geometry)) return;
  const tsquant::kernels::NarrowConv conv(*kernel, p.weight.data_ptr<int8_t>(), p.geometry);
  const auto epilogue = p.epilogues().front();
  print(p, "narrow", measure(p, [&] { conv.run(p.geometry, p.source.data_ptr<uint8_t>(), epilogue); }));
}

/// As wide as the processor and TSQUANT_MAX_ISA allow.
void bench_depthwise(Problem& p) {
  const DepthwiseConv conv(p.weight.data_ptr<int8_t>(), p.geometry);
  const auto epilogue = p.epilogues().front();
  print(p, "depthwise", measure(p, [&] { conv.run(p.geometry, p.source.data_ptr<uint8_t>(), 3, epilogue); }));
}

}  // namespace

int main(int argc, char** argv) {
  const c10::InferenceMode guard;
  at::set_num_threads(1);
  if (argc > 1 && std::string(argv[1]) == "--peak") {
    double peak = 0;
    for (int i = 0; i < 20; ++i) peak = std::max(peak, tsquant::kernels::multiply_rate(/*codes=*/false));
    fmt::print("{:.1f}\n", peak / 1e9);
    return 0;
  }
  fmt::print("{:24} {:16} {:>10} {:>16} {:>16}\n", "shape", "kernel", "us", "x fp32 FMA peak", "x float LibTorch");
  for (const Shape& shape : kShapes) {
    if (argc > 1 && std::string(shape.name).find(argv[1]) == std::string::npos) continue;
    Problem problem(shape);
    if (shape.groups == shape.channels) {
      bench_depthwise(problem);
      continue;
    }
    for (const GemmRow& row : tsquant::kernels::gemm_table()) {
      if (row.supports() && row.isa != tsquant::kernels::Isa::kScalar) bench_row(row, problem);
    }
    bench_winograd(problem);
    bench_narrow(problem);
  }
}
