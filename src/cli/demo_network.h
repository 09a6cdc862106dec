#pragma once

#include <torch/csrc/jit/api/module.h>

#include <functional>

#include "cli/demo_data.h"

namespace tsquant::cli {

/// A small residual network with batch normalisation, written in TorchScript and compiled by LibTorch.
torch::jit::Module make_network(uint64_t seed);

struct TrainOptions {
  int64_t epochs = 4, batch_size = 64;
  double learning_rate = 0.05, seconds = 60;  ///< stops early after `seconds`
  std::function<void(int64_t step, int64_t steps, double loss)> progress;
};

/// Stochastic gradient descent with momentum on the scripted forward; leaves the module in evaluation mode.
void train(torch::jit::Module& network, const DigitData& data, const TrainOptions& options);

/// Makes one channel between the first two convolutions of the first block `factor` times as large and the weights that
/// read it as much smaller: the same function on floats, as large language models have such channels, but 8 bits for
/// all channels no longer reach the others.
void plant_outlier(torch::jit::Module& network, double factor);

/// Pictures as the network takes them: (x / 255 - 0.5) / 0.25.
at::Tensor normalised(const at::Tensor& images);

}  // namespace tsquant::cli
