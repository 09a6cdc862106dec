#include "graph/check_blocks.h"

#include <fmt/format.h>

#include <set>
#include <stdexcept>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

class BlockChecker {
 public:
  void check(const Block* block) {
    const size_t outer = scope_.size();
    for (const Value* input : block->inputs()) {
      require(input->node() == block->param_node(), "an input of a block belongs to another node", input);
      define(input);
    }
    const Node* previous = block->param_node();
    for (const Node* node : block->nodes()) {
      require(previous->isBefore(node), "nodes are out of order", node);
      require(node->owningBlock() == block, "a node belongs to another block", node);
      check_node(node);
      previous = node;
    }
    check_inputs(block->return_node());
    while (scope_.size() > outer) {
      visible_.erase(scope_.back());
      scope_.pop_back();
    }
  }

  /// To be called last: every use that a value lists was an input of a node.
  void check_uses() const {
    for (const auto& [value, uses] : open_uses_) require(uses.empty(), "a use belongs to no node", value);
  }

 private:
  static std::string text_of(const Value* value) { return "%" + value->debugName(); }
  static std::string text_of(const Node* node) { return node->kind().toQualString(); }

  template <typename Subject>
  static void require(bool holds, const char* fault, const Subject* subject) {
    if (!holds) throw std::runtime_error(fmt::format("{}: {}", fault, text_of(subject)));
  }

  void check_node(const Node* node) {
    require(node->kind() != c10::prim::Param && node->kind() != c10::prim::Return, "an end of a block inside of it",
            node);
    check_inputs(node);
    for (const Block* inner : node->blocks()) {
      require(inner->owningNode() == node, "a block belongs to another node", node);
      check(inner);
    }
    for (size_t i = 0; i < node->outputs().size(); ++i) {
      const Value* output = node->output(i);
      require(output->node() == node && output->offset() == i, "a result belongs to another node", output);
      define(output);
    }
  }

  void define(const Value* value) {
    require(value->type() != nullptr, "a value has no type", value);
    require(uniques_.insert(value->unique()).second, "two values have one number", value);
    visible_.insert(value);
    scope_.push_back(value);
    auto& uses = open_uses_[value];
    for (const auto& use : value->uses()) {
      require(uses.emplace(use.user, use.offset).second, "a use is listed twice", value);
    }
  }

  void check_inputs(const Node* node) {
    for (size_t i = 0; i < node->inputs().size(); ++i) {
      const Value* input = node->input(i);
      require(visible_.count(input) != 0, "a value is read where it is not defined", input);
      require(open_uses_[input].erase({node, i}) != 0, "an input is not among the uses of its value", input);
    }
  }

  using Uses = std::set<std::pair<const Node*, size_t>>;
  std::vector<const Value*> scope_;
  std::unordered_set<const Value*> visible_;
  std::unordered_set<size_t> uniques_;
  std::unordered_map<const Value*, Uses> open_uses_;
};

}  // namespace

void check_blocks(const torch::jit::Graph& graph) {
  BlockChecker checker;
  checker.check(graph.block());
  checker.check_uses();
}

}  // namespace tsquant
