#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace tsquant {

/// A function that is written as TorchScript, to be found again in graphs that it was inserted into (insert_source.h),
/// also after they were saved, loaded and trained. The function has one result and no branches.
class SourcePattern {
 public:
  SourcePattern(const std::string& source, const std::string& function);

  struct Match {
    torch::jit::Node* last;                     ///< gives the result
    std::vector<torch::jit::Value*> arguments;  ///< in the order of the function
  };
  /// In the order of execution, blocks included. Values inside of the function that something else reads as well are no
  /// match.
  std::vector<Match> find(torch::jit::Graph& graph) const;

 private:
  std::shared_ptr<torch::jit::Graph> graph_;
  size_t arguments_ = 0;
  std::map<const torch::jit::Value*, c10::IValue> constants_;  ///< inputs of graph_ beside the arguments
};

}  // namespace tsquant
