// How long does quantization take beside plain float forward passes, how much memory, and where does it go?
// usage: bench_quantize_time MODEL.pt 1,3,224,224 [SAMPLES] [decomposed|reference|fake_quantize|lowered]
// [fast|accurate|none] [ROUNDS]
// One thread; prints JSON. Each round measures half of the float passes, quantization, and the other half, so that a
// machine that slows down meanwhile slows both. The median round is reported. Peaks are resident memory above what the
// process had before it loaded the model. Exit code 1 when quantization takes more than 1.6 x the float passes or more
// memory than model + 1.3 x their peak.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <malloc.h>
#include <torch/script.h>
#include <tsquant/tsquant.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>

namespace {

constexpr double kTimeLimit = 1.6, kPeakLimit = 1.3;
constexpr int64_t kDistinctSamples = 16, kDefaultSamples = 300, kDefaultRounds = 3;

struct Phase {
  double seconds = 0;
  int64_t peak_bytes = 0;
};

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// A field of /proc/self/status in bytes: VmRSS, VmHWM.
int64_t memory(const std::string& field) {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word != field + ":") continue;
    int64_t kilobytes = 0;
    status >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}

/// Gives freed memory back and starts a new VmHWM (Linux: writing 5 to clear_refs). Returns the memory in use.
int64_t reset_peak() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";
  return memory("VmRSS");
}

tsquant::OutputForm form_of(const std::string& name) {
  static const std::map<std::string, tsquant::OutputForm> kForms{{"decomposed", tsquant::OutputForm::kDecomposed},
                                                                 {"reference", tsquant::OutputForm::kReference},
                                                                 {"fake_quantize", tsquant::OutputForm::kFakeQuantize},
                                                                 {"lowered", tsquant::OutputForm::kLowered}};
  return kForms.at(name);
}

c10::optional<bool> bias_correction_of(const std::string& name) {
  if (name == "none") return c10::nullopt;
  return name == "fast";
}

/// Time and peak of `samples` float passes, with the model.
Phase float_passes(const std::string& path, const std::vector<at::Tensor>& data, int64_t samples) {
  const int64_t before = reset_peak();
  auto module = torch::jit::load(path);
  module.eval();
  // The first runs profile and optimise.
  for (int i = 0; i < 3; ++i) module.forward({data[0]});
  Phase phase;
  phase.seconds = seconds_of([&] {
    for (int64_t i = 0; i < samples; ++i) module.forward({data[static_cast<size_t>(i % kDistinctSamples)]});
  });
  phase.peak_bytes = memory("VmHWM") - before;
  return phase;
}

/// The phases in the order of the issue; loading and normalising the graph are one.
std::vector<std::pair<std::string, Phase>> quantize(const std::string& path, const std::vector<at::Tensor>& data,
                                                    const tsquant::QuantizePt2eOptions& options) {
  const int64_t before = reset_peak();
  std::vector<std::pair<std::string, Phase>> phases;
  c10::optional<tsquant::Model> model;
  Phase capture;
  capture.seconds = seconds_of([&] { model.emplace(tsquant::Model::load(path)); });
  phases.emplace_back("capture", capture);
  const tsquant::Dataset dataset(options.subset_size, [&](int64_t i) {
    return tsquant::Sample{{data[static_cast<size_t>(i % kDistinctSamples)]}, {}};
  });
  tsquant::OpenVINOQuantizer quantizer;
  const auto result = tsquant::quantize_pt2e(*model, quantizer, dataset, options);
  for (const auto& phase : result.report.phases) {
    if (phase.name != "passes") phases.emplace_back(phase.name, Phase{});
    phases.back().second.seconds += phase.seconds;
    phases.back().second.peak_bytes = phase.peak_bytes - before;
  }
  Phase save;
  const auto out = std::filesystem::temp_directory_path() / fmt::format("quantize_time_{}.pt", getpid());
  save.seconds = seconds_of([&] { result.save(out); });
  std::filesystem::remove(out);
  save.peak_bytes = memory("VmHWM") - before;
  phases.emplace_back("save", save);
  return phases;
}

/// One measurement of both.
struct Round {
  Phase passes, total;
  std::vector<std::pair<std::string, Phase>> phases;

  double ratio() const { return total.seconds / passes.seconds; }
};

Round measure(const std::string& path, const std::vector<at::Tensor>& data,
              const tsquant::QuantizePt2eOptions& options) {
  Round round;
  const int64_t half = options.subset_size / 2;
  const Phase before = float_passes(path, data, half);
  round.phases = quantize(path, data, options);
  const Phase after = float_passes(path, data, options.subset_size - half);
  round.passes = {before.seconds + after.seconds, std::min(before.peak_bytes, after.peak_bytes)};
  for (const auto& [name, phase] : round.phases) {
    round.total.seconds += phase.seconds;
    round.total.peak_bytes = std::max(round.total.peak_bytes, phase.peak_bytes);
  }
  return round;
}

/// Prints the round and says whether it keeps the limits.
bool judge(const Round& round, int64_t samples, const std::vector<Round>& all, int64_t model_bytes) {
  std::string phases, ratios;
  for (const auto& [name, phase] : round.phases) {
    phases += fmt::format("{}{{\"name\":\"{}\",\"seconds\":{:.4f},\"peak_bytes\":{}}}", phases.empty() ? "" : ",", name,
                          phase.seconds, phase.peak_bytes);
  }
  for (const auto& other : all) ratios += fmt::format("{}{:.3f}", ratios.empty() ? "" : ",", other.ratio());
  const auto peak_limit = static_cast<double>(model_bytes) + kPeakLimit * static_cast<double>(round.passes.peak_bytes);
  const bool met = round.ratio() <= kTimeLimit && static_cast<double>(round.total.peak_bytes) <= peak_limit;
  std::cout << fmt::format(
      "{{\"samples\":{},\"threads\":1,\"float_seconds\":{:.4f},\"quantize_seconds\":{:.4f},\"ratio\":{:.3f},"
      "\"ratios\":[{}],\"ratio_limit\":{},\"model_bytes\":{},\"float_peak_bytes\":{},\"peak_bytes\":{},"
      "\"peak_limit_bytes\":{:.0f},\"met\":{},\"phases\":[{}]}}\n",
      samples, round.passes.seconds, round.total.seconds, round.ratio(), ratios, kTimeLimit, model_bytes,
      round.passes.peak_bytes, round.total.peak_bytes, peak_limit, met, phases);
  return met;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: bench_quantize_time MODEL.pt SHAPE [SAMPLES] [FORM] [fast|accurate|none] [ROUNDS]\n";
    return 2;
  }
  at::set_num_threads(1);
  torch::NoGradGuard no_grad;
  std::vector<int64_t> shape;
  std::istringstream text(argv[2]);
  for (std::string part; std::getline(text, part, ',');) shape.push_back(std::stoll(part));
  std::vector<at::Tensor> data;
  for (int64_t i = 0; i < kDistinctSamples; ++i) data.push_back(torch::randn(shape));

  tsquant::QuantizePt2eOptions options;
  options.subset_size = argc > 3 ? std::stoll(argv[3]) : kDefaultSamples;
  options.form = form_of(argc > 4 ? argv[4] : "decomposed");
  options.fast_bias_correction = bias_correction_of(argc > 5 ? argv[5] : "fast");

  float_passes(argv[1], data, 1);  // what the process loads and keeps for its first run is nobody's peak
  std::vector<Round> rounds;
  for (int64_t left = std::max<int64_t>(argc > 6 ? std::stoll(argv[6]) : kDefaultRounds, 1); left > 0; --left) {
    rounds.push_back(measure(argv[1], data, options));
  }
  // Later rounds find a heap that earlier ones left in pieces: the smallest float peak and the largest of quantization.
  int64_t float_peak = rounds.front().passes.peak_bytes, peak = 0;
  for (const auto& round : rounds) {
    float_peak = std::min(float_peak, round.passes.peak_bytes);
    peak = std::max(peak, round.total.peak_bytes);
  }
  for (auto& round : rounds) round.passes.peak_bytes = float_peak, round.total.peak_bytes = peak;
  std::vector<Round> sorted = rounds;
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.ratio() < b.ratio(); });
  const auto model_bytes = static_cast<int64_t>(std::filesystem::file_size(argv[1]));
  return judge(sorted[sorted.size() / 2], options.subset_size, rounds, model_bytes) ? 0 : 1;
}
