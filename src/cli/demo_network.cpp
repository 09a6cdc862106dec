#include "cli/demo_network.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/jit/python/update_graph_executor_opt.h>

#include <chrono>
#include <cmath>

namespace tsquant::cli {

namespace {

using torch::jit::Module;

/// Convolution, batch normalisation and, if asked for, relu.
Module conv_unit(const std::string& name, int64_t in, int64_t out, int64_t stride, bool relu, at::Generator generator) {
  Module unit("__torch__.demo." + name);
  unit.register_attribute("training", c10::BoolType::get(), true);
  const double deviation = std::sqrt(2.0 / static_cast<double>(in * 9));
  unit.register_parameter("weight", at::randn({out, in, 3, 3}, generator, at::TensorOptions()) * deviation, false);
  unit.register_parameter("bn_weight", at::ones({out}), false);
  unit.register_parameter("bn_bias", at::zeros({out}), false);
  unit.register_buffer("running_mean", at::zeros({out}));
  unit.register_buffer("running_var", at::ones({out}));
  const std::string s = std::to_string(stride);
  unit.define("def forward(self, x):\n  x = torch.conv2d(x, self.weight, None, [" + s + ", " + s +
              "], [1, 1])\n  x = torch.batch_norm(x, self.bn_weight, self.bn_bias, self.running_mean, "
              "self.running_var, self.training, 0.1, 1e-5, False)\n  return " +
              (relu ? "torch.relu(x)" : "x") + "\n");
  return unit;
}

void sgd_step(std::vector<at::Tensor>& parameters, std::vector<at::Tensor>& velocities, double rate) {
  constexpr double kMomentum = 0.9, kDecay = 5e-4;
  at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters.size(); ++i) {
    auto& gradient = parameters[i].mutable_grad();
    velocities[i].mul_(kMomentum).add_(gradient).add_(parameters[i], kDecay);
    parameters[i].sub_(velocities[i], rate);
    gradient.zero_();
  }
}

}  // namespace

at::Tensor normalised(const at::Tensor& images) { return (images.to(c10::kFloat) / 255 - 0.5) / 0.25; }

Module make_network(uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  Module network("__torch__.demo.DigitNet");
  network.register_attribute("training", c10::BoolType::get(), true);
  network.register_module("stem", conv_unit("Stem", 1, 32, 2, true, generator));
  network.register_module("conv1", conv_unit("Conv1", 32, 32, 1, true, generator));
  network.register_module("conv2", conv_unit("Conv2", 32, 32, 1, false, generator));
  network.register_module("down", conv_unit("Down", 32, 64, 2, true, generator));
  network.register_module("conv3", conv_unit("Conv3", 64, 64, 1, true, generator));
  network.register_module("conv4", conv_unit("Conv4", 64, 64, 1, false, generator));
  network.register_parameter("fc_weight", at::randn({10, 64}, generator, at::TensorOptions()) * 0.1, false);
  network.register_parameter("fc_bias", at::zeros({10}), false);
  network.define(R"(
def forward(self, x):
  x = self.stem.forward(x)
  x = torch.relu(self.conv2.forward(self.conv1.forward(x)) + x)
  x = self.down.forward(x)
  x = torch.relu(self.conv4.forward(self.conv3.forward(x)) + x)
  x = torch.flatten(torch.adaptive_avg_pool2d(x, [1, 1]), 1)
  return torch.linear(x, self.fc_weight, self.fc_bias)
)");
  return network;
}

void plant_outlier(Module& network, double factor) {
  at::NoGradGuard no_grad;
  // The relu between them commutes with a positive factor.
  Module writer = network.attr("conv1").toModule(), reader = network.attr("conv2").toModule();
  constexpr int64_t kChannel = 3;
  for (const char* name : {"bn_weight", "bn_bias"}) writer.attr(name).toTensor().select(0, kChannel).mul_(factor);
  reader.attr("weight").toTensor().select(1, kChannel).div_(factor);
}

void train(Module& network, const DigitData& data, const TrainOptions& options) {
  // The profiling executor would re-specialise the backward graph for every batch size; plain interpretation is faster
  // here.
  const bool optimise = torch::jit::getGraphExecutorOptimize();
  torch::jit::setGraphExecutorOptimize(false);
  network.train(true);
  std::vector<at::Tensor> parameters, velocities;
  for (const auto& parameter : network.parameters()) {
    parameters.push_back(parameter);
    parameters.back().set_requires_grad(true);
    velocities.push_back(at::zeros_like(parameter));
  }
  auto generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{5});
  const auto begin = std::chrono::steady_clock::now();
  const int64_t batches = data.labels.size(0) / options.batch_size, steps = batches * options.epochs;
  at::Tensor order;
  for (int64_t step = 0; step < steps; ++step) {
    if (step % batches == 0) order = at::randperm(data.labels.size(0), generator, at::TensorOptions(c10::kLong));
    const auto rows = order.narrow(0, step % batches * options.batch_size, options.batch_size);
    const auto scores = network.forward({normalised(data.images.index_select(0, rows))}).toTensor();
    const auto loss = at::cross_entropy_loss(scores, data.labels.index_select(0, rows));
    loss.backward();
    // One cycle: a linear warm-up over a tenth of the steps, then a cosine.
    const double part = static_cast<double>(step) / static_cast<double>(steps);
    const double factor = part < 0.1 ? (part + 1e-3) * 10 : 0.5 * (1 + std::cos(M_PI * (part - 0.1) / 0.9));
    sgd_step(parameters, velocities, options.learning_rate * factor);
    if (options.progress) options.progress(step + 1, steps, loss.item<double>());
    if (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() > options.seconds) break;
  }
  for (auto& parameter : parameters) {
    parameter.set_requires_grad(false);
    parameter.mutable_grad() = at::Tensor();
  }
  network.train(false);
  torch::jit::setGraphExecutorOptimize(optimise);
}

}  // namespace tsquant::cli
