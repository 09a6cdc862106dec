#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <unordered_map>
#include <vector>

namespace tsquant {

/// Puts `kind(inputs)` in the place of `old`, which has one result: names, source position and users move over.
torch::jit::Node* replace_node(torch::jit::Node* old, const std::string& kind,
                               const std::vector<torch::jit::Value*>& inputs);

/// Names for replacements that compute another function than the user wrote (`addmm` -> `linear`).
class FunctionNames {
 public:
  /// Reads the names of the graph; afterwards only `rename` may give names of the types that it is asked for.
  explicit FunctionNames(torch::jit::Graph& graph);
  /// Gives the operator the function name `type` and the first ordinal that no other operator of the graph has.
  void rename(torch::jit::Node* node, const std::string& type);

 private:
  void release(const std::string& name);
  std::unordered_map<std::string, int64_t> taken_;  ///< how many operators have a name
  std::unordered_map<std::string, int64_t> next_;   ///< by name without the ordinal: all ordinals below are taken
};

}  // namespace tsquant
