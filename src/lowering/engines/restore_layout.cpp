#include <unordered_set>

#include "graph/node_lists.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

namespace {

/// Operators whose meaning depends on how their first operand lies in memory.
bool sees_layout(const Node* node) {
  static const std::unordered_set<std::string> names = {
      "view",           "view_as", "_unsafe_view",    "unflatten",    "as_strided",
      "as_strided_",    "stride",  "is_contiguous",   "resize_",      "set_",
      "storage_offset", "data",    "view_as_complex", "view_as_real", "resize_as_"};
  return node->kind().is_aten() && names.count(node->kind().toUnqualString()) > 0;
}

/// Operators of other libraries may read memory themselves.
bool is_foreign(const Node* node) {
  const std::string space = node->kind().ns().toUnqualString();
  return space != "aten" && space != "prim" && space != "tsquant" && space != "quantized" &&
         space != "quantized_decomposed" && space != "onnx";
}

/// Operators that write dense results whatever they read.
bool writes_dense(const Node* node) {
  static const std::unordered_set<std::string> names = {"linear",  "matmul", "mm",        "addmm",  "bmm",
                                                        "baddbmm", "mv",     "embedding", "einsum", "contiguous"};
  const std::string kind = node->kind().toUnqualString();
  return (node->kind().is_aten() && names.count(kind) > 0) || kind == "linear_float";
}

/// The values whose layout somebody can tell: operands of operators that see it, results of the model, and what those
/// are computed from by operators that hand the layout on.
class SeenLayouts {
 public:
  explicit SeenLayouts(const LoweringContext& context, Block* block) : context_(context) {
    // What a loop carries around is known after the first turn; twice reaches the values before it.
    for (int turn = 0; turn < 2; ++turn) {
      for (Value* result : block->return_node()->inputs()) mark(result);
      visit(block);
    }
  }

  bool contains(const Value* value) const { return seen_.count(value) > 0; }

 private:
  void mark(Value* value) { seen_.insert(value); }

  void visit(Block* block) {
    for (Node* node : block->nodes().reverse()) {
      const bool handed_on = std::any_of(node->outputs().begin(), node->outputs().end(),
                                         [&](const Value* output) { return seen_.count(output) > 0; });
      for (Block* inner : node->blocks()) {
        if (handed_on) {
          for (Value* result : inner->return_node()->inputs()) mark(result);
        }
        visit(inner);
        for (Value* input : inner->inputs()) {
          if (seen_.count(input) == 0) continue;
          for (Value* outer : node->inputs()) mark(outer);
        }
      }
      if (sees_layout(node)) mark(node->input(0));
      if (is_foreign(node) || (handed_on && !writes_dense(node) && !makes_codes(node))) {
        for (Value* input : node->inputs()) mark(input);
      }
    }
  }

  /// Kernels lay their result out by themselves, so only the result itself can be mended.
  bool makes_codes(const Node* node) const {
    return node->outputs().size() == 1 && context_.is_lowered(node->output()) && !node->kind().is_aten();
  }

  const LoweringContext& context_;
  std::unordered_set<const Value*> seen_;
};

/// Values that may lie channels-last although the float model's would be dense: what kernels for images write, and
/// what is moved or computed from it.
class ImageLayouts {
 public:
  explicit ImageLayouts(const LoweringContext& context, Block* block) : context_(context) {
    for (int turn = 0; turn < 2; ++turn) visit(block);
  }

  bool contains(const Value* value) const { return images_.count(value) > 0; }

 private:
  bool starts_here(const Node* node) const {
    if (node->outputs().size() != 1 || node->kind().is_aten() || !context_.is_lowered(node->output())) return false;
    const std::string kind = node->kind().toUnqualString();
    return kind.rfind("linear", 0) != 0 && kind != "mean";
  }

  void visit(Block* block) {
    for (Node* node : block->nodes()) {
      for (Block* inner : node->blocks()) {
        for (Value* input : inner->inputs()) {
          if (any_image(node->inputs())) images_.insert(input);
        }
        visit(inner);
        for (size_t i = 0; i < node->outputs().size(); ++i) {
          const auto results = inner->return_node()->inputs();
          if (any_image(results)) images_.insert(node->outputs()[i]);
        }
      }
      if (starts_here(node) || (any_image(node->inputs()) && !writes_dense(node))) {
        for (Value* output : node->outputs()) images_.insert(output);
      }
    }
  }

  template <class Values>
  bool any_image(const Values& values) const {
    return std::any_of(values.begin(), values.end(), [&](const Value* value) { return images_.count(value) > 0; });
  }

  const LoweringContext& context_;
  std::unordered_set<const Value*> images_;
};

Value* dense(LoweringContext& context, Node* position, Value* value) {
  const auto format = static_cast<int64_t>(c10::MemoryFormat::Contiguous);
  Value* result = context.insert(position, "aten::contiguous", {value, context.constant(position, format)}, nullptr);
  if (context.holds_codes(value)) context.set_codes(result, CodeParams(context.params_of(value)));
  return result;
}

/// Mends what the node reads or, for a kernel with a float result, what it writes.
bool restore_at(LoweringContext& context, Node* node, const ImageLayouts& images, const SeenLayouts& seen) {
  const bool dequantizes = is_dequantizer(node);
  if (dequantizes || (sees_layout(node) && context.holds_codes(node->input(0)) && images.contains(node->input(0)))) {
    if (!images.contains(node->input(0)) || (dequantizes && !seen.contains(node->output()))) return false;
    node->replaceInput(0, dense(context, node, node->input(0)));
    return true;
  }
  if (node->outputs().size() != 1) return false;
  Value* output = node->output();
  if (!context.is_lowered(output) || context.holds_codes(output) || !seen.contains(output) ||
      !images.contains(output)) {
    return false;
  }
  Value* result = dense(context, node->next(), output);
  output->replaceAllUsesAfterNodeWith(result->node(), result);
  return true;
}

}  // namespace

// Codes of images lie channels-last in memory. Gives the dense layout back before everything that can tell the
// difference: views, strides, operators of other libraries, and the caller of the model.
// %y = tsquant::conv(...); %v = aten::view(%y, ...)   ->   %c = aten::contiguous(%y); %v = aten::view(%c, ...)
//
// Floats are mended where they leave the codes, so that everything behind, aliases and writes in place included,
// works on one dense tensor.
bool restore_layout(LoweringContext& context) {
  const ImageLayouts images(context, context.graph().block());
  const SeenLayouts seen(context, context.graph().block());
  bool changed = false;
  for (Node* node : all_nodes(context.graph().block())) changed |= restore_at(context, node, images, seen);
  return changed;
}

}  // namespace tsquant
