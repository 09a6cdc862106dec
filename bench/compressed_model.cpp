// How fast does a compressed language model run, against float after optimize_for_inference? A Llama-like model of
// random weights, 12 blocks of width 1024, in float and in three compressed forms, each with float activations and with
// dynamic ones, in turns: one token (weights come from memory) and a prompt. Set OPENBLAS_NUM_THREADS=1 for one thread.
// usage: bench_compressed_model [tokens=128] [width=1024] [blocks=12], in TMPDIR
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "evaluation/benchmark.h"
#include "evaluation/runnable.h"
#include "llama_model.h"
#include "temporary_folder.h"
#include "tsquant/compress_weights.h"
#include "tsquant/load_mapped.h"

namespace {

namespace fs = std::filesystem;
using namespace tsquant;

void compress(const std::string& from, const std::string& to, CompressWeightsMode mode,
              c10::optional<int64_t> group_size, bool dynamic) {
  Model model = load_mapped(from);
  CompressWeightsOptions options;
  options.mode = mode;
  options.group_size = group_size;
  options.all_layers = group_size.has_value();
  options.form = OutputForm::kLowered;
  options.dynamic_activations = dynamic;
  options.do_copy = false;
  compress_weights(model, options).save(to);
}

void measure(const std::vector<std::string>& files, int64_t tokens) {
  std::vector<Runnable> models;
  for (const auto& file : files) models.push_back(load_runnable(file));
  BenchmarkOptions options;
  options.threads = 1;
  options.optimize = true;
  options.seconds = 20;
  const Sample sample{{at::randint(0, bench::kTokens, {1, tokens}, at::kLong)}, {}};
  for (const auto& result : benchmark(std::move(models), sample, options)) {
    fmt::print("{:>4} tokens  {:<20} {:9.2f} ms  {:.2f} x float\n", tokens, fs::path(result.model).filename().string(),
               result.median_ms, 1 / result.ratio_to_first);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t tokens = argc > 1 ? std::atoi(argv[1]) : 128;
  const int64_t width = argc > 2 ? std::atoi(argv[2]) : 1024, blocks = argc > 3 ? std::atoi(argv[3]) : 12;
  return bench::in_temporary_folder([&](const std::string& folder) {
    const std::string start = folder + "/";
    std::vector<std::string> files{start + "float.pt"};
    bench::write_llama_model(files[0], width, blocks);
    const auto add = [&](const std::string& name, CompressWeightsMode mode, c10::optional<int64_t> group_size) {
      for (const bool dynamic : {false, true}) {
        files.push_back(start + name + (dynamic ? "_dynamic" : "") + ".pt");
        compress(files[0], files.back(), mode, group_size, dynamic);
      }
    };
    add("int8_asym", CompressWeightsMode::kInt8Asym, c10::nullopt);
    add("int4_g32", CompressWeightsMode::kInt4Sym, 32);
    add("int4_g128", CompressWeightsMode::kInt4Sym, 128);
    measure(files, 1);
    measure(files, tokens);
  });
}
