// Quantizes a classifier and lets no more than one point of accuracy go:
// accuracy_control MODEL.pt CALIBRATION.pt VALIDATION.pt OUT.pt
// The data files are TorchScript modules with the buffers `images` (uint8) and `labels`, as `tsquant demo --outlier
// 200` writes them.
#include <torch/script.h>
#include <tsquant/tsquant.h>

#include <iostream>

namespace {

at::Tensor images_of(const torch::jit::Module& data) {
  return (data.attr("images").toTensor().to(at::kFloat) / 255 - 0.5) / 0.25;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: accuracy_control MODEL.pt CALIBRATION.pt VALIDATION.pt OUT.pt\n";
    return 2;
  }
  try {
    auto model = tsquant::Model::load(argv[1]);
    const auto calibration = tsquant::Dataset::from_rows({images_of(torch::jit::load(argv[2]))}, 10);
    const auto file = torch::jit::load(argv[3]);
    constexpr int64_t kBatch = 25;
    const auto validation = tsquant::Dataset::from_rows({images_of(file)}, kBatch);
    const at::Tensor labels = file.attr("labels").toTensor();

    // Higher is better; the outputs tell which layers do the damage. `indices` may be a part of the data.
    const auto accuracy = [&](tsquant::ValidationModel& run, const tsquant::Dataset& data,
                              const std::vector<int64_t>& indices) {
      std::vector<std::vector<at::Tensor>> outputs;
      double right = 0, total = 0;
      for (int64_t i : indices) {
        const at::Tensor scores = run(data.get(i)).toTensor();
        right += scores.argmax(1).eq(labels.narrow(0, i * kBatch, scores.size(0))).sum().item<double>();
        total += static_cast<double>(scores.size(0));
        outputs.push_back({scores});
      }
      return tsquant::ValidationResult(right / total, outputs);
    };

    tsquant::OpenVINOQuantizer quantizer;
    tsquant::AccuracyControlOptions control;
    control.max_drop = 0.01;
    const auto result =
        tsquant::quantize_pt2e_with_accuracy_control(model, quantizer, calibration, validation, accuracy, control);
    result.quantized.save(argv[4]);
    std::cout << result.summary();
    return result.limit_met ? 0 : 6;
  } catch (const tsquant::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
