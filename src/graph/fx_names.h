#pragma once

#include <string>
#include <unordered_map>
#include <unordered_set>

namespace tsquant {

/// Hands out the node names that torch.fx would (torch/fx/graph.py, _Namespace): the wish itself, or the wish with
/// the smallest free number; Python's keywords and builtins are never free.
class FxNames {
 public:
  std::string take(const std::string& wish);

 private:
  std::unordered_set<std::string> used_;
  std::unordered_map<std::string, int64_t> next_;
};

/// torch.fx's wish for a function ("__getitem__" -> "getitem") or for a state-dict name ("Layer.0.weight" ->
/// "layer_0_weight").
std::string fx_wish(const std::string& name);

}  // namespace tsquant
