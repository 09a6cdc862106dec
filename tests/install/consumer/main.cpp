// Defines a model in memory, quantizes it with the installed library and checks the result against the float model.
#include <torch/script.h>
#include <tsquant/tsquant.h>

#include <iostream>

int main() {
  torch::manual_seed(0);
  torch::jit::Module module("Small");
  module.register_parameter("weight", torch::randn({8, 3, 3, 3}), false);
  module.define("def forward(self, x):\n  return torch.relu(torch.conv2d(x, self.weight))\n");
  std::vector<at::Tensor> samples;
  for (int i = 0; i < 4; ++i) samples.push_back(torch::randn({1, 3, 8, 8}));
  auto model = tsquant::Model::from(module);
  tsquant::OpenVINOQuantizer quantizer;
  auto result = tsquant::quantize_pt2e(model, quantizer, tsquant::Dataset::from_tensors(samples));
  const auto expected = module.forward({samples[0]}).toTensor();
  const auto actual = result.model.run({{samples[0]}, {}}).toTensor();
  const double error = ((actual - expected).norm() / expected.norm()).item<double>();
  std::cout << "relative error " << error << '\n';
  return error > 0 && error < 0.05 ? 0 : 1;
}
