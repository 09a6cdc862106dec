#include "graph/check_blocks.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <stdexcept>
#include <unordered_map>
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
      entries_[scope_.back()->unique()].visible = false;
      scope_.pop_back();
    }
  }

  /// To be called last: every use that a value lists was an input of a node.
  void check_uses() const {
    for (const Entry& entry : entries_) {
      if (entry.value) require(entry.open_uses == 0, "a use belongs to no node", entry.value);
    }
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
    if (value->unique() >= entries_.size()) entries_.resize(std::max(value->unique() + 1, 2 * entries_.size()));
    Entry& entry = entries_[value->unique()];
    require(entry.value == nullptr, "two values have one number", value);
    entry = {value, true, value->uses().size()};
    scope_.push_back(value);
    require(has_no_use_twice(value), "a use is listed twice", value);
  }

  void check_inputs(const Node* node) {
    for (size_t i = 0; i < node->inputs().size(); ++i) {
      const Value* input = node->input(i);
      const bool known = input->unique() < entries_.size() && entries_[input->unique()].value == input;
      require(known && entries_[input->unique()].visible, "a value is read where it is not defined", input);
      require(is_use(input, {node, i}), "an input is not among the uses of its value", input);
      --entries_[input->unique()].open_uses;  // every input of every node is looked at once
    }
  }

  using Place = std::pair<const Node*, size_t>;

  /// Most values have one or two.
  bool has_no_use_twice(const Value* value) {
    const auto& uses = value->uses();
    if (uses.size() > kFewUses) {
      auto& places = many_uses_[value];
      return std::all_of(uses.begin(), uses.end(),
                         [&](const auto& use) { return places.emplace(use.user, use.offset).second; });
    }
    for (size_t i = 1; i < uses.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (uses[i].user == uses[j].user && uses[i].offset == uses[j].offset) return false;
      }
    }
    return true;
  }

  bool is_use(const Value* value, const Place& place) const {
    const auto& uses = value->uses();
    if (uses.size() > kFewUses) return many_uses_.at(value).count(place) != 0;
    return std::any_of(uses.begin(), uses.end(),
                       [&](const auto& use) { return use.user == place.first && use.offset == place.second; });
  }

  struct Entry {
    const Value* value = nullptr;
    bool visible = false;
    size_t open_uses = 0;  ///< of which no node was seen yet
  };

  static constexpr size_t kFewUses = 8;
  std::vector<Entry> entries_;  ///< by the number of the value
  std::vector<const Value*> scope_;
  std::unordered_map<const Value*, std::set<Place>> many_uses_;
};

}  // namespace

void check_blocks(const torch::jit::Graph& graph) {
  BlockChecker checker;
  checker.check(graph.block());
  checker.check_uses();
}

}  // namespace tsquant
