#include "quantizers/fx/operator_sites.h"

#include "quantizers/pt2e/module_paths.h"

namespace tsquant::fx {

namespace {

void collect(const torch::jit::Module& module, const std::string& path, std::vector<Submodule>& found) {
  found.push_back({path, pt2e::class_name(module)});
  for (const auto& child : module.named_children()) {
    collect(child.value, path.empty() ? child.name : path + "." + child.name, found);
  }
}

}  // namespace

std::string OperatorSite::parent_path() const {
  if (!in_layer) return module_path;
  const size_t dot = module_path.rfind('.');
  return dot == std::string::npos ? "" : module_path.substr(0, dot);
}

bool fits(const OperatorSite& site, const ObjectType& type) {
  switch (type.kind) {
    case ObjectType::Kind::kOperator:
      return site.name == type.name;
    case ObjectType::Kind::kFunction:
      return !site.in_layer && site.name == type.name;
    case ObjectType::Kind::kClass:
      break;
  }
  return is_class(site.module_class, type.name);
}

std::vector<Submodule> submodules_of(const Model& model) {
  std::vector<Submodule> found;
  collect(model.module(), "", found);
  return found;
}

}  // namespace tsquant::fx
