#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace tsquant {

/// LibTorch chooses between its own convolution and oneDNN's by the size of the batch and the number of threads, and
/// the two round differently. Statistics, and so the files that tsquant writes, must depend on neither, so what is
/// measured runs oneDNN's convolution always; its bits are the same for any batch and number of threads.
///
/// Replaces aten::conv1d, conv2d and conv3d, inner blocks included, by operators of this library. For graphs that are
/// run and thrown away: the operators are not meant to be saved.
void use_steady_convolutions(torch::jit::Graph& graph);

/// What runs a node alone: the steady convolution for convolutions, the operator itself for all others.
torch::jit::Operation steady_operation(const torch::jit::Node* node);

}  // namespace tsquant
