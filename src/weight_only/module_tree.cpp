#include "weight_only/module_tree.h"

#include <unordered_set>

namespace tsquant {

namespace {

using torch::jit::Module;

void collect_modules(const Module& module, const std::string& name, std::unordered_set<const void*>& seen,
                     std::vector<std::pair<std::string, Module>>& found) {
  if (!seen.insert(module._ivalue().get()).second) return;
  found.emplace_back(name, module);
  const auto type = module.type();
  for (size_t i = 0; i < type->numAttributes(); ++i) {
    const std::string& child_name = type->getAttributeName(i);
    const auto child = child_of(module, child_name);
    if (child) collect_modules(*child, name.empty() ? child_name : name + "." + child_name, seen, found);
  }
}

}  // namespace

std::string class_name(const Module& module) { return module.type()->name()->name(); }

c10::optional<Module> child_of(const Module& module, const std::string& name) {
  const auto type = module.type();
  const auto slot = type->findAttributeSlot(name);
  if (!slot || !type->getAttribute(*slot)->is_module()) return c10::nullopt;
  const c10::IValue& value = module._ivalue()->getSlot(*slot);
  return value.isObject() ? c10::optional<Module>(Module(value.toObject())) : c10::nullopt;
}

std::vector<std::pair<std::string, Module>> all_modules(const Module& root) {
  std::vector<std::pair<std::string, Module>> found;
  std::unordered_set<const void*> seen;
  collect_modules(root, "", seen, found);
  return found;
}

}  // namespace tsquant
