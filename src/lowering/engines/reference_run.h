#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/ir/ir.h>

#include <unordered_map>
#include <vector>

#include "lowering/engines/memory_layout.h"
#include "tsquant/dataset.h"
#include "tsquant/model.h"

namespace tsquant {

/// Numbers the values of a graph in execution order: a copy of the graph has the same numbers.
using ValueNumbers = std::unordered_map<const torch::jit::Value*, size_t>;
ValueNumbers number_values(const torch::jit::Graph& graph);

/// aten::quantize_per_tensor; aten::dequantize or the engine's own.
bool is_quantizer(const torch::jit::Node* node);
bool is_dequantizer(const torch::jit::Node* node);
/// relu, hardtanh, clamp and their like.
bool is_clamp(const torch::jit::Node* node);

/// What one sample does in the reference form: the tensors that a lowered graph is compared with, and the shapes.
struct ReferenceRun {
  /// By value number: the tensors in the order in which they appeared (several in loops); empty when not recorded.
  std::vector<std::vector<at::Tensor>> tensors;
  /// By value number: the sizes at the first appearance; none when the sample does not reach the value.
  std::vector<c10::optional<std::vector<int64_t>>> sizes;
  /// The same for how it lies in memory.
  std::vector<c10::optional<MemoryLayout>> layouts;
};

/// @throws Error kDataset when the model rejects the sample
ReferenceRun run_reference(const Model& reference, const Sample& probe);

}  // namespace tsquant
