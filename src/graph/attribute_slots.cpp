#include "graph/attribute_slots.h"

#include <unordered_map>

namespace tsquant {

namespace {

constexpr size_t kFewAttributes = 16;
constexpr size_t kMostTypes = 64;

using Slots = std::unordered_map<std::string, size_t>;

bool is_slot(const c10::ClassType& type, size_t slot, const std::string& name) {
  return slot < type.numAttributes() && type.getAttributeName(slot) == name;
}

Slots slots_of(const c10::ClassType& type) {
  Slots slots;
  slots.reserve(type.numAttributes());
  for (size_t i = 0; i < type.numAttributes(); ++i) slots.emplace(type.getAttributeName(i), i);
  return slots;
}

}  // namespace

c10::optional<size_t> find_attribute_slot(const c10::ClassType& type, const std::string& name) {
  if (type.numAttributes() <= kFewAttributes) return type.findAttributeSlot(name);
  // Classes come, change and go; what the table says is checked, so it may be about another class.
  thread_local std::unordered_map<const c10::ClassType*, Slots> tables;
  if (tables.size() > kMostTypes) tables.clear();
  const auto [table, is_new] = tables.try_emplace(&type);
  if (is_new) table->second = slots_of(type);
  const auto found = table->second.find(name);
  if (found != table->second.end() && is_slot(type, found->second, name)) return found->second;
  const auto slot = type.findAttributeSlot(name);
  if (slot) table->second[name] = *slot;
  return slot;
}

void remove_attribute(torch::jit::Module& module, const std::string& name) {
  module._ivalue()->unsafeRemoveAttr(name);
  module.type()->unsafeRemoveAttribute(name);
}

}  // namespace tsquant
