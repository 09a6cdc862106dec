#include <ATen/ATen.h>

#include <set>

#include "graph/module_calls.h"
#include "graph/params.h"
#include "lowering/lowering.h"

namespace tsquant {

namespace {

/// What an interface attribute holds must keep the methods of the interface, or the file cannot be loaded.
bool holds_interfaces(const torch::jit::Module& module) {
  for (const auto& child : module.modules()) {
    for (size_t i = 0; i < child.type()->numAttributes(); ++i) {
      if (child.type()->getAttribute(i)->kind() == c10::TypeKind::InterfaceType) return true;
    }
  }
  return false;
}

/// Classes of modules that are kept apart and called. Other modules may be of the same class.
std::set<const c10::ClassType*> called_classes(const torch::jit::Module& root) {
  std::set<const c10::ClassType*> classes;
  for (const auto* object : opaque_objects(root)) classes.insert(object->type().get());
  return classes;
}

/// Methods of submodules were inlined into forward; only other methods of the root can still call them.
bool drop_dead_methods(const Model& model) {
  if (model.module().get_methods().size() != 1 || holds_interfaces(model.module())) return false;
  bool changed = false;
  const auto called = called_classes(model.module());
  for (const auto& child : model.module().modules()) {
    if (called.count(child.type().get()) > 0) continue;
    // A module that saves and loads itself needs its methods for that.
    if (child._ivalue() == model.module()._ivalue() || child.find_method("__setstate__")) continue;
    std::vector<std::string> names;
    for (const auto& method : child.type()->methods()) names.push_back(method->name());
    for (const auto& name : names) child.type()->unsafeRemoveMethod(name);
    changed = changed || !names.empty();
  }
  return changed;
}

/// A container of the same type without elements.
c10::IValue emptied(const c10::IValue& value) {
  if (value.isList()) return c10::impl::GenericList(value.toList().elementType());
  const auto dict = value.toGenericDict();
  return c10::impl::GenericDict(dict.keyType(), dict.valueType());
}

}  // namespace

bool drop_unread(Model& model) {
  bool changed = drop_dead_methods(model);
  // One empty tensor for all slots: its storage is written once.
  const at::Tensor nothing = at::empty({0});
  std::vector<AttributeSlot> containers, tensors;
  std::set<std::string> dropped;
  for (auto& slot : unread_attributes(model)) {
    if (model.unread_at_capture().count(slot.path)) continue;
    auto& slots = slot.value().isTensor() ? tensors : containers;
    dropped.insert(slot.path);
    slots.push_back(std::move(slot));
  }
  // Another name of a weight that stays takes no place.
  const auto kept = attribute_storages(model, dropped);
  for (const auto& slot : tensors) {
    if (all_stored_in(kept, slot.value())) continue;
    changed = changed || slot.value().toTensor().numel() > 0;
    slot.owner->setSlot(slot.index, nothing);
  }
  // Lists of weights would keep the tensors alive that are gone everywhere else.
  const auto storages = attribute_storages(model);
  for (const auto& slot : containers) {
    if (all_stored_in(storages, slot.value())) continue;
    slot.owner->setSlot(slot.index, emptied(slot.value()));
    changed = true;
  }
  return changed;
}

}  // namespace tsquant
