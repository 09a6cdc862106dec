#pragma once

#include <map>
#include <set>
#include <string>

#include "graph/fx_names.h"
#include "graph/tensor_values.h"
#include "tsquant/model.h"

namespace tsquant {

/// Names for operators that a pass adds: built like those of capture (names.h), and used by no other operator.
class FreshNames {
 public:
  explicit FreshNames(const Model& model);

  /// Names an operator as if it stood in the module `path` ("encoder/layers/0"). Other nodes get an empty name.
  void give(torch::jit::Node* node, const std::string& path, const SizeArithmetic& sizes);

 private:
  std::string next_name(const std::string& base);

  std::set<std::string> taken_;
  std::map<std::string, int64_t> ordinals_;
  FxNames aliases_;
};

/// The module in which a named operator stands: "layers/0/self_attn" for "layers/0/self_attn/linear/0".
std::string module_path(const torch::jit::Node* node);

}  // namespace tsquant
