#include "graph/graph_fingerprint.h"

#include <c10/util/hash.h>

#include <functional>
#include <sstream>
#include <string>

namespace tsquant {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

namespace {

class Fingerprint {
 public:
  size_t of(const torch::jit::Graph& graph) {
    add_block(graph.block());
    return hash_;
  }

 private:
  template <typename Part>
  void add(const Part& part) {
    hash_ = c10::hash_combine(hash_, std::hash<Part>()(part));
  }

  void add_value(const Value* value) {
    add(static_cast<const void*>(value));
    add(static_cast<const void*>(value->type().get()));
    if (value->hasDebugName()) add(value->debugName());
  }

  void add_list(const c10::IValue& list) {
    for (const int64_t number : list.toIntVector()) add(number);
  }

  /// @return whether it is an attribute of a common kind, which need not be printed
  bool add_attribute(const Node* node, c10::Symbol name) {
    add(static_cast<uint32_t>(name));
    switch (node->kindOf(name)) {
      case torch::jit::AttributeKind::i:
        add(node->i(name));
        return true;
      case torch::jit::AttributeKind::f:
        add(node->f(name));
        return true;
      case torch::jit::AttributeKind::s:
        add(node->s(name));
        return true;
      case torch::jit::AttributeKind::ival:
        if (!node->ival(name).isIntList()) return false;
        add_list(node->ival(name));
        return true;
      default:
        return false;
    }
  }

  void add_attributes(const Node* node) {
    if (!node->hasAttributes()) return;
    bool complete = true;
    for (const c10::Symbol name : node->attributeNames()) complete = add_attribute(node, name) && complete;
    if (complete) return;
    std::ostringstream text;
    node->print(text, 0, nullptr, /*print_source_locations=*/false, /*print_attributes=*/true, /*print_scopes=*/false,
                /*print_body=*/false);
    add(text.str());
  }

  void add_node(const Node* node) {
    add(static_cast<const void*>(node));
    add(static_cast<uint32_t>(node->kind()));
    add(static_cast<const void*>(const_cast<Node*>(node)->scope().get()));  // scope() is not const in 1.13
    for (const Value* input : node->inputs()) add(static_cast<const void*>(input));
    for (const Value* output : node->outputs()) add_value(output);
    add_attributes(node);
    for (const Block* inner : node->blocks()) add_block(inner);
  }

  void add_block(const Block* block) {
    for (const Value* input : block->inputs()) add_value(input);
    for (const Node* node : block->nodes()) add_node(node);
    for (const Value* output : block->outputs()) add(static_cast<const void*>(output));
    add(static_cast<const void*>(block));
  }

  size_t hash_ = 0;
};

}  // namespace

size_t graph_fingerprint(const torch::jit::Graph& graph) { return Fingerprint().of(graph); }

}  // namespace tsquant
