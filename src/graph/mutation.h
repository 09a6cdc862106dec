#pragma once

#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/csrc/jit/ir/ir.h>

#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

namespace tsquant {

/// Finds tensors whose content changes after they were produced, by alias analysis of the whole graph.
class MutationAnalysis {
 public:
  explicit MutationAnalysis(const std::shared_ptr<torch::jit::Graph>& graph);

  /// Whether an operator may write into the tensor or an alias of it after it was produced.
  bool is_written_later(torch::jit::Value* value) const;

 private:
  bool writes_only_buffers(const torch::jit::Node* writer) const;

  torch::jit::AliasDb aliases_;
  std::vector<torch::jit::Node*> writers_;
  std::unordered_set<std::string> assigned_;  ///< names of attributes that the graph sets
  const torch::jit::Node* inputs_;
};

}  // namespace tsquant
