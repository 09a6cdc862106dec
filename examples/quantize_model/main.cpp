// Quantizes a TorchScript image model from C++: quantize_model MODEL.pt OUT.pt
// The calibration samples are random here; give real ones in your program.
#include <torch/script.h>
#include <tsquant/tsquant.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: quantize_model MODEL.pt OUT.pt\n";
    return 2;
  }
  try {
    auto model = tsquant::Model::load(argv[1]);
    std::vector<at::Tensor> samples;
    for (int i = 0; i < 16; ++i) samples.push_back(torch::randn({1, 3, 32, 32}));
    tsquant::OpenVINOQuantizer quantizer;
    auto result = tsquant::quantize_pt2e(model, quantizer, tsquant::Dataset::from_tensors(samples));
    result.save(argv[2]);
    std::cout << result.report.summary();
  } catch (const tsquant::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
