#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "graph/params.h"

namespace tsquant {

/// Tensors that a graph computes from parameters, buffers and constants alone, like the weight of weight_norm. What it
/// says is valid until the graph is edited.
class ConstantExpressions {
 public:
  explicit ConstantExpressions(const Model& model);

  /// Why a value is not the same in every run ("depends on the input \"x\""); empty when it is. In-place changes,
  /// through views too, random numbers and operators with unknown effects count as reasons.
  const std::string& obstacle(const torch::jit::Value* value);

  /// Equal for values that are computed in the same way from the same tensors.
  int64_t identity(const torch::jit::Value* value);

 private:
  using Block = torch::jit::Block;
  using Node = torch::jit::Node;
  using Value = torch::jit::Value;

  void mark_written(const Value* value);
  void push_aliases(const Value* value, std::vector<const Value*>& stack);
  std::string find_obstacle(const Value* value);
  std::string attribute_obstacle(const Node* node);
  std::string block_obstacle(const Node* outer, Block* block);

  const Model& model_;
  ParamIndex params_;
  std::unordered_set<const Value*> written_;
  std::set<std::pair<const c10::ivalue::Object*, std::string>> written_slots_;
  std::unordered_map<const Value*, std::string> obstacles_;
  std::unordered_map<const Value*, int64_t> identities_;
  std::map<std::string, int64_t> identity_of_text_;
};

/// Computes a value without obstacle. @throws whatever its operators throw
at::Tensor compute_constant(const Model& model, torch::jit::Value* value);

/// The tensor attributes that a value is computed from.
std::vector<AttributeSlot> sources_of(const Model& model, torch::jit::Value* value);

}  // namespace tsquant
