// How long does quantization take beside plain float forward passes, and where does the time go?
// usage: bench_quantize_time MODEL.pt 1,3,224,224 [SAMPLES] [form]; one thread; prints JSON.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/script.h>
#include <tsquant/tsquant.h>

#include <chrono>
#include <iostream>
#include <sstream>

namespace {

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: bench_quantize_time MODEL.pt SHAPE [SAMPLES] [reference|lowered]\n";
    return 2;
  }
  at::set_num_threads(1);
  torch::NoGradGuard no_grad;
  std::vector<int64_t> shape;
  std::istringstream text(argv[2]);
  for (std::string part; std::getline(text, part, ',');) shape.push_back(std::stoll(part));
  const int samples = argc > 3 ? std::stoi(argv[3]) : 32;

  std::vector<at::Tensor> data;
  for (int i = 0; i < samples; ++i) data.push_back(torch::randn(shape));
  auto module = torch::jit::load(argv[1]);
  module.eval();
  for (int i = 0; i < 3; ++i) module.forward({data[0]});
  const double float_seconds = seconds_of([&] {
    for (const auto& x : data) module.forward({x});
  });

  tsquant::QuantizePt2eOptions options;
  options.subset_size = samples;
  if (argc > 4 && std::string(argv[4]) == "reference") options.form = tsquant::OutputForm::kReference;
  if (argc > 4 && std::string(argv[4]) == "lowered") options.form = tsquant::OutputForm::kLowered;
  auto model = tsquant::Model::load(argv[1]);
  tsquant::OpenVINOQuantizer quantizer;
  const auto dataset = tsquant::Dataset::from_tensors(data);
  c10::optional<tsquant::QuantizedModel> result;
  const double quantize_seconds =
      seconds_of([&] { result.emplace(tsquant::quantize_pt2e(model, quantizer, dataset, options)); });

  std::string phases;
  for (const auto& phase : result->report.phases) {
    phases += fmt::format("{}{{\"name\":\"{}\",\"seconds\":{:.4f},\"peak_bytes\":{}}}", phases.empty() ? "" : ",",
                          phase.name, phase.seconds, phase.peak_bytes);
  }
  std::cout << fmt::format(
      "{{\"samples\":{},\"threads\":1,\"float_seconds\":{:.4f},\"quantize_seconds\":{:.4f},\"ratio\":{:.3f},"
      "\"phases\":[{}]}}\n",
      samples, float_seconds, quantize_seconds, quantize_seconds / float_seconds, phases);
}
