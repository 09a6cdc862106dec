// How fast does a linear layer run on compressed weights, against the same layer in float? One thread. "x_float" is the
// time of at::linear over ours, the best of calls in turns. decode: one token, weights from memory (the packed ones
// exceed the cache too); batch: four; prompt: 128. dynamic: with inputs that are quantized to int8. Set
// OPENBLAS_NUM_THREADS=1: at::set_num_threads does not reach OpenBLAS. usage: OPENBLAS_NUM_THREADS=1
// bench_compressed_linear [--benchmark_filter=decode]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "kernels/compressed_format.h"
#include "kernels/compressed_ops.h"
#include "kernels/isa.h"

namespace {

using namespace tsquant::kernels;

/// Random codes; what they stand for does not matter to the time.
struct Weight {
  Weight(const CompressedFormat& f, bool asymmetric, int64_t rows, int64_t size, int64_t group) : name(f.name) {
    const bool signed_bytes = f.integer() && f.bits == 8 && !asymmetric;
    const auto limit = f.levels == LevelKind::kE4M3 || f.levels == LevelKind::kTable256 ? 100 : 256;
    n = size;
    group_size = group;
    codes = at::randint(0, limit, {rows, packed_row_size(n, f.bits)}, at::kByte);
    if (signed_bytes) codes = codes.view(at::kChar);
    scale = at::rand({rows, n / group, 1}).add_(0.5).div_(1000).to(at::kHalf);
    if (asymmetric) zero_point = at::randint(0, 256, {rows, packed_row_size(n / group, f.bits)}, at::kByte);
    if (f.has_codebook()) codebook = at::linspace(-1, 1, int64_t{1} << f.bits);
    values = decompress(codes, scale, zero_point, name, {rows, n}, group_size, at::kFloat, codebook, {});
  }
  at::Tensor run(const at::Tensor& x, bool dynamic) const {
    return (dynamic ? linear_compressed_dynamic : linear_compressed)(x, codes, scale, zero_point, {}, name, n,
                                                                     group_size, codebook, {});
  }

  const char* name;
  int64_t n, group_size;
  at::Tensor codes, scale, values;
  OptionalTensor zero_point, codebook;
};

template <typename Run>
double seconds(const Run& run) {
  const auto start = std::chrono::steady_clock::now();
  benchmark::DoNotOptimize(run());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void time(benchmark::State& state, const Weight& weight, int64_t tokens, bool dynamic) {
  const at::Tensor x = at::randn({tokens, weight.n});
  const auto ours = [&] { return weight.run(x, dynamic); };
  const auto floats = [&] { return at::linear(x, weight.values); };
  const at::Tensor expected = floats();
  const double limit = dynamic ? 0.05 : 1e-4;
  if ((ours() - expected).abs().max().item<double>() > limit * expected.abs().max().item<double>()) {
    state.SkipWithError("the results differ");
  }
  double best = 1e9, best_float = 1e9;
  for (auto _ : state) {
    best_float = std::min(best_float, seconds(floats));
    const double taken = seconds(ours);
    best = std::min(best, taken);
    state.SetIterationTime(taken);
  }
  state.counters["x_float"] = best_float / best;
  state.counters["best_ms"] = best * 1e3;
  state.counters["float_ms"] = best_float * 1e3;
}

void add(const CompressedFormat& f, bool asymmetric, int64_t group, bool dynamic) {
  const std::string name = std::string(f.name) + (asymmetric ? "_asym" : "") +
                           (group == 0 ? "/channel" : "/g" + std::to_string(group)) + (dynamic ? "/dynamic" : "");
  const auto measure = [&f, asymmetric, group, dynamic](int64_t rows, int64_t size, int64_t tokens) {
    return [&f, asymmetric, group, dynamic, rows, size, tokens](benchmark::State& state) {
      const Weight weight(f, asymmetric, rows, size, group == 0 ? size : group);
      time(state, weight, tokens, dynamic);
    };
  };
  const auto add_one = [&](const char* what, const auto& run) {
    benchmark::RegisterBenchmark((std::string(what) + "/" + name).c_str(), run)
        ->UseManualTime()
        ->Iterations(8)
        ->Unit(benchmark::kMillisecond);
  };
  add_one("decode", measure(16384, 8192, 1));
  add_one("batch", measure(16384, 8192, 4));
  add_one("prompt", measure(4096, 4096, 128));
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  for (const CompressedFormat& f : compressed_formats()) {
    const bool bytes = f.integer() && f.bits == 8;
    for (const bool asymmetric : {false, true}) {
      if (asymmetric && !f.integer()) continue;
      for (const bool dynamic : {false, true}) {
        if (dynamic && !f.integer()) continue;
        add(f, asymmetric, bytes ? 0 : 32, dynamic);
        if (f.bits == 4) add(f, asymmetric, 128, dynamic);
      }
    }
  }
  benchmark::AddCustomContext("instruction set", isa_name(available_isas().back()));
  const char* threads = std::getenv("OPENBLAS_NUM_THREADS");
  benchmark::AddCustomContext("threads of OpenBLAS", threads == nullptr ? "all" : threads);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
