#include "graph/fresh_writes.h"

#include <string>

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// `x.mul_(0.9)` is x.
bool returns_its_argument(const Node* node) {
  const auto* schema = node->maybeSchema();
  return schema && node->kind().is_aten() && schema->is_mutable() && node->outputs().size() == 1 &&
         schema->name().back() == '_';
}

bool is_new(const Value* value) {
  while (returns_its_argument(value->node())) value = value->node()->input(0);
  return makes_new_tensor(value->node());
}

}  // namespace

bool is_dropout(const Node* node) {
  return std::string(node->kind().toUnqualString()).find("dropout") != std::string::npos;
}

bool makes_new_tensor(const Node* node) {
  const auto* schema = node->maybeSchema();
  return schema && node->kind().is_aten() && !is_dropout(node) && !schema->is_mutable() &&
         node->outputs().size() == 1 && schema->returns().size() == 1 &&
         schema->returns()[0].type()->kind() == c10::TypeKind::TensorType && !schema->returns()[0].alias_info();
}

bool writes_only_new_tensors(const Node* node) {
  const auto* schema = node->maybeSchema();
  if (!schema || !schema->is_mutable()) return true;
  for (size_t i = 0; i < schema->arguments().size(); ++i) {
    const auto* alias = schema->arguments()[i].alias_info();
    if (alias && alias->isWrite() && (i >= node->inputs().size() || !is_new(node->input(i)))) return false;
  }
  return true;
}

}  // namespace tsquant
