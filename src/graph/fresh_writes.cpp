#include "graph/fresh_writes.h"

#include <string>

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// What in-place operators were given in the end.
const Node* origin(const Value* value) {
  while (returns_its_argument(value->node())) value = value->node()->input(0);
  return value->node();
}

/// Whether the operator writes only into values with such origins.
template <typename Predicate>
bool writes_only(const Node* node, const Predicate& is_harmless) {
  const auto* schema = node->maybeSchema();
  if (!schema || !schema->is_mutable()) return true;
  for (size_t i = 0; i < schema->arguments().size(); ++i) {
    const auto* alias = schema->arguments()[i].alias_info();
    if (!alias || !alias->isWrite()) continue;
    if (i >= node->inputs().size() || !is_harmless(origin(node->input(i)))) return false;
  }
  return true;
}

}  // namespace

bool is_dropout(const Node* node) {
  return std::string(node->kind().toUnqualString()).find("dropout") != std::string::npos;
}

bool returns_its_argument(const Node* node) {
  const auto* schema = node->maybeSchema();
  return schema && node->kind().is_aten() && schema->is_mutable() && node->outputs().size() == 1 &&
         schema->name().back() == '_';
}

bool makes_new_tensor(const Node* node) {
  const auto* schema = node->maybeSchema();
  return schema && node->kind().is_aten() && !is_dropout(node) && !schema->is_mutable() &&
         node->outputs().size() == 1 && schema->returns().size() == 1 &&
         schema->returns()[0].type()->kind() == c10::TypeKind::TensorType && !schema->returns()[0].alias_info();
}

bool writes_only_new_tensors(const Node* node) { return writes_only(node, makes_new_tensor); }

bool may_write_to_arguments(const Node* node) {
  return !writes_only(node, [](const Node* origin) {
    return origin->kind() == c10::prim::GetAttr || origin->kind() == c10::prim::ListConstruct ||
           makes_new_tensor(origin);
  });
}

}  // namespace tsquant
