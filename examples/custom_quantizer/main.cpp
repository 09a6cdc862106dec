// usage: custom_quantizer MODEL.pt OUT.pt SHAPE [PLUGIN.so]
// Quantizes with the class of this program, or with the one from a shared library.
#include <torch/script.h>
#include <tsquant/load_quantizer.h>

#include <iostream>
#include <sstream>

#include "linear_only_quantizer.h"

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: custom_quantizer MODEL.pt OUT.pt N,C,H,W [PLUGIN.so]\n";
    return 2;
  }
  try {
    std::vector<int64_t> shape;
    std::stringstream text(argv[3]);
    for (std::string size; std::getline(text, size, ',');) shape.push_back(std::stoll(size));
    std::vector<at::Tensor> samples;
    torch::manual_seed(0);
    for (int i = 0; i < 16; ++i) samples.push_back(torch::randn(shape));

    auto model = tsquant::Model::load(argv[1]);
    std::unique_ptr<tsquant::Quantizer> quantizer = std::make_unique<LinearOnlyQuantizer>();
    if (argc > 4) quantizer = tsquant::load_quantizer(argv[4]);
    auto result = tsquant::quantize_pt2e(model, *quantizer, tsquant::Dataset::from_tensors(samples));
    result.save(argv[2]);
    std::cout << result.report.summary();
  } catch (const tsquant::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
