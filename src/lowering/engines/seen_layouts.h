#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <set>
#include <unordered_set>
#include <utility>
#include <vector>

#include "graph/mutation.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

/// Where somebody can tell how a value lies in memory: what operators that see it read (views, strides, operators of
/// other libraries), the model's results, and what those are computed from by operators that hand the layout on.
class SeenLayouts {
 public:
  explicit SeenLayouts(const LoweringContext& context);

  bool contains(const torch::jit::Value* value) const { return seen_.count(value) > 0; }
  /// Node and number of an operand, always in the same order. The kernels of an engine lay their results out by
  /// themselves, so what they read is not among these.
  const std::vector<std::pair<torch::jit::Node*, size_t>>& reads() const { return reads_; }

 private:
  void visit(torch::jit::Block* block);
  void mark_inputs(torch::jit::Node* node);
  void mark(torch::jit::Node* node, size_t input);
  bool sees_layout(const torch::jit::Node* node) const;

  const LoweringContext& context_;
  c10::optional<MutationAnalysis> mutation_;  ///< of graphs that write at all: it looks at all aliases
  std::unordered_set<const torch::jit::Value*> seen_;
  std::set<std::pair<const torch::jit::Node*, size_t>> known_;
  std::vector<std::pair<torch::jit::Node*, size_t>> reads_;
};

/// Values that may lie channels-last although the float model's would be dense: what kernels for images write, and
/// what is moved or computed from it.
class ImageLayouts {
 public:
  explicit ImageLayouts(const LoweringContext& context);

  bool contains(const torch::jit::Value* value) const { return images_.count(value) > 0; }

 private:
  void visit(torch::jit::Block* block);
  bool starts_here(const torch::jit::Node* node) const;
  template <class Values>
  bool any_image(const Values& values) const;

  const LoweringContext& context_;
  std::unordered_set<const torch::jit::Value*> images_;
};

/// An operator of the engine, which lays its result out by itself.
bool is_kernel(const LoweringContext& context, const torch::jit::Node* node);

}  // namespace tsquant
