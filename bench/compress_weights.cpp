// How many float weights does one core turn into codes in a second? Every format of the table in groups of 32 (or of
// its own size), int8 per channel; beside the speed stands the error that remains. mode/: the modes of
// nncf.compress_weights; stored/: with packing. And how long do GPTQ and refinement take, with how much memory?
// usage: bench_compress_weights [--benchmark_filter=...] [--benchmark_repetitions=5], or
// bench_compress_weights --gptq [threads]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "compression/refine_layer.h"
#include "compression/round_to_nearest.h"
#include "compression/scale_search.h"
#include "lowering/compressed/stored_weight.h"
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

/// A mode of nncf.compress_weights: to its codes, and to what a file holds.
void add_mode(Format format, QuantizationScheme mode, int64_t group_size) {
  QuantizationSpec spec;
  spec.format = format;
  spec.mode = mode;
  spec.per_channel = group_size == 0;
  spec.group_size = group_size;
  const std::string name = to_string(format) + (mode == QuantizationScheme::kSymmetric ? "_sym" : "_asym") +
                           (group_size > 0 ? fmt::format("_g{}", group_size) : "");
  const auto add_work = [&](const char* what, const auto& work) {
    benchmark::RegisterBenchmark((what + name).c_str(), [work](benchmark::State& state) {
      const auto values = weight(kMany);
      for (auto _ : state) benchmark::DoNotOptimize(work(values));
      state.SetBytesProcessed(state.iterations() * values.numel() * 4);
    })->UseRealTime();
  };
  add_work("mode/", [spec](const at::Tensor& values) { return round_to_nearest(values, spec); });
  add_work("stored/", [spec](const at::Tensor& values) {
    return store_weight(round_to_nearest(values, spec), values.sizes(), at::kFloat);
  });
}

void add_modes() {
  for (const auto mode : {QuantizationScheme::kAsymmetric, QuantizationScheme::kSymmetric}) {
    add_mode(Format::kInt8, mode, 0);
    for (const int64_t group_size : {32, 64, 128}) add_mode(Format::kInt4, mode, group_size);
  }
}

template <typename Work>
double seconds_of(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double peak_gigabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1e6;
}

/// What one layer costs.
struct LayerCost {
  double moments = 0;  ///< seconds for `kModelRows` rows of inputs
  double refine = 0;   ///< seconds
};

constexpr int64_t kModelRows = 65536, kTimedRows = 8192, kHeldOutRows = 1024;

LayerCost time_refinement(int64_t outputs, int64_t inputs) {
  at::manual_seed(1);
  const auto weight = at::randn({outputs, inputs});
  const auto sizes = at::arange(1, inputs + 1).rsqrt(), shared = at::randn({64, inputs});
  const auto inputs_of = [&](int64_t rows) {
    return (at::randn({rows, inputs}) + at::mm(at::randn({rows, 64}), shared)) * sizes;
  };
  const auto rows = inputs_of(kTimedRows);
  InputMoments moments, held_out;
  held_out.add(inputs_of(kHeldOutRows));
  LayerCost cost;
  cost.moments = seconds_of([&] { moments.add(rows); }) * kModelRows / kTimedRows;
  QuantizationSpec spec;
  spec.format = Format::kInt4;
  spec.mode = QuantizationScheme::kAsymmetric;
  spec.group_size = 32;
  RefineRecord record;
  RefineOptions options;  // that try what they would try with all rows
  options.enough_rows *= static_cast<double>(kTimedRows) / kModelRows;
  cost.refine = seconds_of([&] { refine(weight, spec, moments, &held_out, options, &record); });
  fmt::print(
      "{:>5} x {:<5} int4 asym g32: moments of {} rows {:6.1f} s, refine {:6.1f} s, peak {:.2f} GB, error {:.5f} -> "
      "{:.5f}\n",
      outputs, inputs, kModelRows, cost.moments, cost.refine, peak_gigabytes(), record.error.before,
      record.error.after);
  return cost;
}

/// A model of 22 blocks with 2048 channels, as TinyLlama-1.1B: query and output 2048, key and value 256, gate and up
/// 5632 outputs on three inputs of 2048 channels, down 2048 outputs on 5632.
void print_refinement_cost(int threads) {
  at::set_num_threads(threads);
  const LayerCost wide = time_refinement(5632, 2048), deep = time_refinement(2048, 5632);
  constexpr double kBlocks = 22, kWideOutputs = 2 * 2048 + 2 * 256 + 2 * 5632, kWideInputs = 3;
  const double moments = kBlocks * (kWideInputs * wide.moments + deep.moments);
  const double refined = kBlocks * (kWideOutputs / 5632 * wide.refine + deep.refine);
  fmt::print("1.1 G parameters, {} rows, {} threads: moments {:.1f} min + refine {:.1f} min = {:.1f} min\n", kModelRows,
             threads, moments / 60, refined / 60, (moments + refined) / 60);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--gptq") == 0) {
    print_refinement_cost(argc > 2 ? std::atoi(argv[2]) : 2);
    return 0;
  }
  at::set_num_threads(1);
  for (const FormatRow& row : formats()) {
    add(row, QuantizationScheme::kSymmetric, row.info.name);
    if (row.info.integer) add(row, QuantizationScheme::kAsymmetric, std::string(row.info.name) + "_asym");
  }
  add_modes();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
