#include "graph/access_index.h"

#include <algorithm>

#include "graph/attribute_slots.h"

namespace tsquant {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Use;
using torch::jit::Value;

bool writes_argument(const Node* node, size_t offset) {
  const auto* schema = node->maybeSchema();
  if (!schema || offset >= schema->arguments().size()) return false;
  const auto* alias = schema->arguments()[offset].alias_info();
  return alias && alias->isWrite();
}

c10::optional<AttributeSlot> slot_of_access(const ObjectPtr& owner, const std::string& prefix, const Node* access) {
  const auto& name = access->s(c10::attr::name);
  const auto index = owner ? find_attribute_slot(*owner->type(), name) : c10::nullopt;
  if (!index) return c10::nullopt;
  return AttributeSlot{owner, name, prefix + name, *index};
}

AccessIndex::AccessIndex(const ObjectPtr& root, const Value* self, Block* block) {
  places_.emplace(self, Place{root, ""});
  collect(block);
}

const AccessIndex::Place& AccessIndex::place_of(const Value* value) const {
  const auto found = places_.find(value);
  if (found != places_.end()) return found->second;
  Place place;
  const Node* node = value->node();
  if (node->kind() == c10::prim::GetAttr) {
    const Place& owner = place_of(node->input());
    const auto slot = slot_of_access(owner.object, owner.prefix, node);
    if (slot && slot->value().isObject()) place = {slot->value().toObject(), slot->path + "."};
  }
  return places_.emplace(value, std::move(place)).first->second;
}

c10::optional<AttributeSlot> AccessIndex::slot(const Value* value) const {
  const Node* node = value->node();
  if (node->kind() != c10::prim::GetAttr) return c10::nullopt;
  const Place& owner = place_of(node->input());
  return slot_of_access(owner.object, owner.prefix, node);
}

const AccessIndex::Accesses* AccessIndex::find(const AttributeSlot& slot) const {
  const auto found = table_.find({slot.owner.get(), slot.name});
  return found == table_.end() ? nullptr : &found->second;
}

void AccessIndex::forget(const Node* access) {
  const auto owner = places_.find(access->input(0));
  if (owner != places_.end()) {
    const auto found = table_.find({owner->second.object.get(), access->s(c10::attr::name)});
    if (found != table_.end()) {
      auto& nodes = found->second.nodes;
      nodes.erase(std::remove(nodes.begin(), nodes.end(), access), nodes.end());
    }
  }
  for (const Value* output : access->outputs()) places_.erase(output);
}

void AccessIndex::collect(Block* block) {
  for (Node* node : block->nodes()) {
    for (Block* inner : node->blocks()) collect(inner);
    const bool gets = node->kind() == c10::prim::GetAttr && !node->output()->type()->cast<c10::ClassType>();
    if (!gets && node->kind() != c10::prim::SetAttr) continue;
    const Place& owner = place_of(node->input(0));
    if (!owner.object) continue;
    const auto& name = node->s(c10::attr::name);
    if (gets && !find_attribute_slot(*owner.object->type(), name)) continue;
    Accesses& accesses = table_[{owner.object.get(), name}];
    accesses.nodes.push_back(node);
    const auto writes = [](const Use& use) { return writes_argument(use.user, use.offset); };
    accesses.written =
        accesses.written || !gets || std::any_of(node->output()->uses().begin(), node->output()->uses().end(), writes);
  }
}

}  // namespace tsquant
