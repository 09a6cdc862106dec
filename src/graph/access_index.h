#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "graph/params.h"

namespace tsquant {

using ObjectPtr = c10::intrusive_ptr<c10::ivalue::Object>;

/// Whether an operator writes into this argument.
bool writes_argument(const torch::jit::Node* node, size_t offset);

/// The slot that GetAttr or SetAttr accesses. @param owner may be null, @param prefix names that lead to it, with dots
c10::optional<AttributeSlot> slot_of_access(const ObjectPtr& owner, const std::string& prefix,
                                            const torch::jit::Node* access);

/// All that one graph does to the attributes of a module and its children, found in one walk over the graph. Valid
/// until a GetAttr or SetAttr is made, or destroyed without `forget`; uses may change.
class AccessIndex {
 public:
  struct Accesses {
    std::vector<const torch::jit::Node*> nodes;  ///< GetAttr and SetAttr of the attribute, not of modules
    bool written = false;                        ///< by one of them, when the index was made
  };
  using Key = std::pair<const c10::ivalue::Object*, std::string>;
  struct KeyHash {
    size_t operator()(const Key& key) const {
      return std::hash<const void*>()(key.first) * 31 + std::hash<std::string>()(key.second);
    }
  };
  using Table = std::unordered_map<Key, Accesses, KeyHash>;

  AccessIndex(const ObjectPtr& root, const torch::jit::Value* self, torch::jit::Block* block);

  /// The attribute behind a GetAttr chain that starts at self.
  c10::optional<AttributeSlot> slot(const torch::jit::Value* value) const;
  /// Null when the graph does not access the attribute.
  const Accesses* find(const AttributeSlot& slot) const;
  const Table& table() const { return table_; }
  void forget(const torch::jit::Node* access);

 private:
  /// An object and the names that lead to it from the root, each followed by a dot.
  struct Place {
    ObjectPtr object;
    std::string prefix;
  };

  void collect(torch::jit::Block* block);
  const Place& place_of(const torch::jit::Value* value) const;

  mutable std::unordered_map<const torch::jit::Value*, Place> places_;
  Table table_;
};

}  // namespace tsquant
