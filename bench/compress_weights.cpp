// How many float weights does one core turn into codes in a second? Every format of the table in groups of 32 (or of
// its own size), int8 per channel; beside the speed stands the error that remains. usage: bench_compress_weights
// [--benchmark_filter=...] [--benchmark_repetitions=5]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include <cmath>

#include "compression/round_to_nearest.h"
#include "compression/scale_search.h"
#include "numerics/error_metrics.h"
#include "numerics/formats.h"
#include "numerics/pack.h"

namespace {

using namespace tsquant;

at::Tensor weight(int64_t rows) {
  at::manual_seed(1);
  return at::randn({rows, 4096});
}

QuantizationSpec spec_of(const FormatRow& row, QuantizationScheme mode) {
  QuantizationSpec spec;
  spec.format = row.format;
  spec.mode = mode;
  if (row.format == Format::kInt8) {
    spec.per_channel = true;
  } else {
    spec.group_size = row.info.group_size > 0 ? row.info.group_size : 32;
  }
  for (int i = 0; row.info.largest == 0 && i < 16; ++i) spec.codebook.push_back(static_cast<float>(i * i - 100));
  return spec;
}

constexpr int64_t kMany = 2048, kFew = 128;

/// Bytes of float weights, and the error on the same few rows for all.
template <typename Compress>
void report(benchmark::State& state, int64_t rows, const Compress& compress) {
  state.SetBytesProcessed(state.iterations() * rows * 4096 * 4);
  const auto values = weight(kFew);
  state.counters["sqnr_db"] = sqnr_db(values, decompress(compress(values)));
}

void add(const FormatRow& row, QuantizationScheme mode, const std::string& name) {
  const auto spec = spec_of(row, mode);
  benchmark::RegisterBenchmark(("round_to_nearest/" + name).c_str(), [spec](benchmark::State& state) {
    const auto values = weight(kMany);
    const auto compress = [&](const at::Tensor& x) { return round_to_nearest(x, spec); };
    for (auto _ : state) benchmark::DoNotOptimize(compress(values));
    report(state, kMany, compress);
  })->UseRealTime();
  benchmark::RegisterBenchmark(("pack/" + name).c_str(), [spec](benchmark::State& state) {
    const auto codes = round_to_nearest(weight(kMany), spec).codes;
    for (auto _ : state) benchmark::DoNotOptimize(pack(codes, spec.format));
    state.SetBytesProcessed(state.iterations() * codes.numel() * 4);
  })->UseRealTime();
  benchmark::RegisterBenchmark(("search_scales/" + name).c_str(), [spec](benchmark::State& state) {
    const auto values = weight(kFew);
    const auto compress = [&](const at::Tensor& x) { return search_scales(x, spec); };
    for (auto _ : state) benchmark::DoNotOptimize(compress(values));
    report(state, kFew, compress);
  })->UseRealTime();
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  for (const FormatRow& row : formats()) {
    add(row, QuantizationScheme::kSymmetric, row.info.name);
    if (row.info.integer) add(row, QuantizationScheme::kAsymmetric, std::string(row.info.name) + "_asym");
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
