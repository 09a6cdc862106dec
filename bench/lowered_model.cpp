// How much faster is the lowered form than LibTorch's best float form? One thread, both measured in turns.
//   bench_lowered_model MODEL.pt [--engine NAME] [--shape 1,3,224,224] [--runs 50]
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/csrc/jit/api/module.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <sstream>

#include "tsquant/tsquant.h"

namespace {

struct Options {
  std::string model, engine = tsquant::default_engine();
  std::vector<int64_t> shape = {1, 3, 224, 224};
  int runs = 50;
};

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.rfind("--", 0) != 0) {
      options.model = word;
      continue;
    }
    if (++i >= argc) return false;
    if (word == "--engine") {
      options.engine = argv[i];
    } else if (word == "--runs") {
      options.runs = std::atoi(argv[i]);
    } else if (word == "--shape") {
      options.shape.clear();
      std::stringstream text(argv[i]);
      for (std::string size; std::getline(text, size, ',');) options.shape.push_back(std::stoll(size));
    } else {
      return false;
    }
  }
  return !options.model.empty() && options.runs > 0;
}

double milliseconds(torch::jit::Module& module, const std::vector<c10::IValue>& inputs) {
  const auto start = std::chrono::steady_clock::now();
  module.forward(inputs);
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

at::Tensor first_tensor(const c10::IValue& value) {
  if (value.isTensor()) return value.toTensor();
  return value.toTupleRef().elements()[0].toTensor();
}

tsquant::QuantizedModel quantize(const Options& options, tsquant::OutputForm form, const tsquant::Dataset& data) {
  tsquant::Model model = tsquant::Model::load(options.model);
  tsquant::OpenVINOQuantizer quantizer;
  tsquant::QuantizePt2eOptions o;
  o.form = form;
  if (form == tsquant::OutputForm::kLowered) o.engine = options.engine;
  return tsquant::quantize_pt2e(model, quantizer, data, o);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr, "usage: bench_lowered_model MODEL.pt [--engine NAME] [--shape 1,3,224,224] [--runs 50]\n");
    return 2;
  }
  at::set_num_threads(1);
  const c10::InferenceMode inference;
  std::vector<at::Tensor> images;
  for (int i = 0; i < 8; ++i) images.push_back(at::randn(options.shape));
  const auto data = tsquant::Dataset::from_tensors(images);

  auto floats = torch::jit::load(options.model);
  floats.eval();
  floats = torch::jit::optimize_for_inference(floats);
  const auto reference = quantize(options, tsquant::OutputForm::kReference, data);
  const auto lowered = quantize(options, tsquant::OutputForm::kLowered, data);
  auto module = lowered.model.finished_module();
  const tsquant::EngineGuard guard(options.engine);

  const std::vector<c10::IValue> inputs = {images[0]};
  for (int i = 0; i < 5; ++i) milliseconds(floats, inputs), milliseconds(module, inputs);
  std::vector<double> float_times, lowered_times;
  for (int i = 0; i < options.runs; ++i) {
    float_times.push_back(milliseconds(floats, inputs));
    lowered_times.push_back(milliseconds(module, inputs));
  }
  const at::Tensor want = first_tensor(reference.model.run({{images[0]}, {}}));
  const at::Tensor got = first_tensor(module.forward(inputs));
  const auto error = (got - want).abs().max().item<double>(), range = want.abs().max().item<double>();
  std::map<std::string, int> kernels;
  for (const auto& node : lowered.report.nodes) ++kernels[node.kernel];
  for (const auto& [kernel, count] : kernels) fmt::print("{:4d} x {}\n", count, kernel.empty() ? "-" : kernel);
  const double f = *std::min_element(float_times.begin(), float_times.end());
  const double l = *std::min_element(lowered_times.begin(), lowered_times.end());
  fmt::print("engine {}: float {:.3f} ms, lowered {:.3f} ms, ratio {:.2f} (min); {:.3f}, {:.3f}, {:.2f} (median)\n",
             options.engine, f, l, f / l, median(float_times), median(lowered_times),
             median(float_times) / median(lowered_times));
  fmt::print("largest difference from the reference form: {:.5f} of {:.5f}\n", error, range);
  return 0;
}
