#include "graph/free_graphs.h"

#include <set>
#include <string>
#include <vector>

namespace tsquant {

void free_graphs(Model& model) {
  const auto unit = model.module()._ivalue()->compilation_unit();
  std::set<std::string> types;
  for (const auto& module : model.module().modules()) {
    const auto type = module.type();
    types.insert(type->name()->qualifiedName());
    std::vector<std::string> names;
    for (const auto* method : type->methods()) names.push_back(method->name());
    for (const auto& name : names) type->unsafeRemoveMethod(name);
  }
  // Methods that were removed from their type earlier are still in the unit.
  std::vector<c10::QualifiedName> dead;
  for (const auto* function : unit->get_functions()) {
    if (function && types.count(function->qualname().prefix())) dead.push_back(function->qualname());
  }
  for (const auto& name : dead) unit->unsafeRemoveMethod(name);
}

}  // namespace tsquant
