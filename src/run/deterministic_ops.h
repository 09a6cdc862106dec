#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace tsquant {

/// LibTorch chooses between its own convolution and oneDNN's by the size of the batch and the number of threads, and
/// the two round differently. Statistics, and so the files that tsquant writes, must depend on neither, so what is
/// measured runs oneDNN's convolution always; its bits are the same for any number of threads, and on the
/// processors that were tried for any batch.
///
/// The same holds for linear layers: OpenBLAS rounds a row of a large matrix differently from that row alone. They run
/// as 1x1 convolutions over an image of all rows (deterministic_linear.cpp), which is also several times faster.
///
/// Replaces aten::conv1d, conv2d, conv3d and linear, inner blocks included, by operators of this library. For graphs
/// that are run and thrown away: the operators are not meant to be saved.
void use_deterministic_ops(torch::jit::Graph& graph);

/// What runs a node alone: the deterministic operator for convolutions and linear layers, its own for all others.
torch::jit::Operation deterministic_operation(const torch::jit::Node* node);

/// Whether oneDNN computes with these: dense float32 on the CPU.
bool runs_on_onednn(const at::Tensor& x, const at::Tensor& weight);

}  // namespace tsquant
