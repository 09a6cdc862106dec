#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <vector>

namespace tsquant {

/// An operator with one tensor as its result, at the graph's insert point. @return that result
inline torch::jit::Value* insert_op(torch::jit::Graph& graph, const char* kind,
                                    const std::vector<torch::jit::Value*>& inputs) {
  torch::jit::Node* node = graph.insertNode(graph.create(c10::Symbol::fromQualString(kind), inputs, 1));
  node->output()->setType(c10::TensorType::get());
  return node->output();
}

}  // namespace tsquant
