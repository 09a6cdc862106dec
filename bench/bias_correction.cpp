// What does bias correction bring? Agreement with the float model (and top-1) on the kit's image models, for none, fast
// and accurate correction, per-channel and per-tensor weights, 8 and 4 bits.
// usage: bench_bias_correction KIT_DIR [--ranges minmax|mean_minmax|histogram] [MODEL...]
// --ranges: how activation ranges are found, instead of the default. Prints a Markdown table.
// Exit code 1 when a correction costs more than 0.1 points, or brings less than 1 point at 4 bits.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/script.h>
#include <tsquant/tsquant.h>

#include <chrono>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "evaluation/evaluate.h"
#include "tsquant/data_files.h"

namespace {

using tsquant::DataFile;

constexpr double kAllowedLoss = 0.1, kClearGain = 1;

DataFile images(const std::string& path, bool labels, int64_t batch_size) {
  tsquant::DataOptions options;
  options.inputs = {"images"};
  if (labels) options.labels = "labels";
  options.batch_size = batch_size;
  options.scale = 255;
  options.mean = {0.485, 0.456, 0.406};
  options.stddev = {0.229, 0.224, 0.225};
  return tsquant::load_data(path, options);
}

struct Kit {
  DataFile calibration, test;
};

struct Score {
  double agreement = 0, top1 = 0, seconds = 0;
};

tsquant::RangeEstimatorParameters ranges_of(const std::string& name) {
  static const std::map<std::string, tsquant::RangeEstimatorParameters> kRanges{
      {"minmax", tsquant::RangeEstimatorParameters::minmax()},
      {"mean_minmax", tsquant::RangeEstimatorParameters::mean_minmax()},
      {"histogram", tsquant::RangeEstimatorParameters::histogram()}};
  return kRanges.at(name);
}

tsquant::RunSample runner(torch::jit::Module module) {
  return [module](const tsquant::Sample& sample) mutable { return module.forward(sample.args); };
}

/// Replays the outputs of the float model in the order of the test data.
tsquant::RunSample replay(const std::vector<c10::IValue>& outputs) {
  auto next = std::make_shared<size_t>(0);
  return [&outputs, next](const tsquant::Sample&) { return outputs.at((*next)++); };
}

Score score(tsquant::Model& model, const Kit& kit, const std::vector<c10::IValue>& expected, int64_t bits,
            bool per_channel, c10::optional<bool> fast, const tsquant::RangeEstimatorParameters& ranges) {
  tsquant::OpenVINOQuantizerOptions placement;
  if (bits != 8) placement.weights_quantization_params.num_bits = bits;
  if (!per_channel) placement.weights_quantization_params.per_channel = false;
  tsquant::OpenVINOQuantizer quantizer(placement);
  tsquant::QuantizePt2eOptions options;
  options.form = tsquant::OutputForm::kReference;
  options.fast_bias_correction = fast;
  options.activations_range_estimator_params = ranges;
  const auto begin = std::chrono::steady_clock::now();
  const auto result = tsquant::quantize_pt2e(model, quantizer, kit.calibration.dataset, options);
  Score score;
  score.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const auto measured =
      tsquant::evaluate(runner(result.model.finished_module()), kit.test, tsquant::Metric::kTop1, replay(expected));
  score.agreement = *measured.agreement;
  score.top1 = measured.value;
  return score;
}

std::string cell(const Score& score) {
  return fmt::format("{:.2f} ({:.2f}; {:.1f} s)", score.agreement, score.top1, score.seconds);
}

/// One row per granularity and number of bits. Returns whether the bars hold.
bool print_rows(const std::string& name, const std::string& folder, const Kit& kit,
                const tsquant::RangeEstimatorParameters& ranges) {
  auto model = tsquant::Model::load(folder + "/models/" + name + ".pt");
  std::vector<c10::IValue> expected;
  auto run_float = runner(model.finished_module());
  for (int64_t i = 0; i < kit.test.dataset.length(); ++i) expected.push_back(run_float(kit.test.dataset.get(i)));
  bool held = true;
  for (const int64_t bits : {8, 4}) {
    for (const bool per_channel : {true, false}) {
      const auto measure = [&](c10::optional<bool> fast) {
        return score(model, kit, expected, bits, per_channel, fast, ranges);
      };
      const Score none = measure(c10::nullopt), fast = measure(true), accurate = measure(false);
      std::cout << fmt::format("| {} | int{} {} | {} | {} | {} |\n", name, bits,
                               per_channel ? "per channel" : "per tensor", cell(none), cell(fast), cell(accurate))
                << std::flush;
      const double required = none.agreement + (bits == 8 ? -kAllowedLoss : kClearGain);
      // Agreement is a multiple of 0.02; the slack is for its binary representation.
      held = held && fast.agreement > required - 1e-6 && accurate.agreement > required - 1e-6;
    }
  }
  return held;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: bench_bias_correction KIT_DIR [--ranges minmax|mean_minmax|histogram] [MODEL...]\n";
    return 2;
  }
  at::set_num_threads(1);
  torch::NoGradGuard no_grad;
  const std::string folder = argv[1];
  tsquant::RangeEstimatorParameters ranges;
  std::vector<std::string> models;
  for (int i = 2; i < argc; ++i) {
    if (std::string(argv[i]) == "--ranges" && i + 1 < argc) {
      ranges = ranges_of(argv[++i]);
    } else {
      models.emplace_back(argv[i]);
    }
  }
  if (models.empty()) models = {"cifar10_resnet20", "cifar10_mobilenetv2"};
  const Kit kit{images(folder + "/data/cifar10_calib.pt", false, 1),
                images(folder + "/data/cifar10_test_dev.pt", true, 50)};
  std::cout << "Share of test images that keep the float class in % (top-1 in %; time to quantize)\n\n"
               "| model | weights | none | fast | accurate |\n| --- | --- | --- | --- | --- |\n";
  bool held = true;
  for (const auto& name : models) held = print_rows(name, folder, kit, ranges) && held;
  return held ? 0 : 1;
}
