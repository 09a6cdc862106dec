#include "quantizers/fx/site_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/nearest.h"
#include "graph/module_calls.h"
#include "quantizers/pt2e/module_paths.h"
#include "tsquant/error.h"

namespace tsquant::fx {

namespace {

std::vector<std::string> classes_in_float(const PrepareCustomConfig& custom) {
  std::vector<std::string> classes = custom.non_traceable_module_classes();
  for (const auto& mapping : custom.float_to_observed_mapping()) {
    for (const auto& entry : mapping.second) classes.push_back(entry.first);
  }
  return classes;
}

std::vector<std::string> paths_in_float(const std::vector<Submodule>& modules, const PrepareCustomConfig& custom) {
  std::vector<std::string> paths = custom.non_traceable_module_names();
  for (const auto& path : paths) require_submodule(modules, path, "set_non_traceable_module_names");
  for (const auto& module : modules) {
    for (const auto& type : classes_in_float(custom)) {
      if (is_class(module.module_class, type)) paths.push_back(module.path);
    }
  }
  return paths;
}

/// The outermost standalone module around a path: what is in it is its own affair.
int64_t standalone_around(const std::vector<StandaloneModule>& standalone, const std::string& path) {
  int64_t around = -1;
  for (size_t i = 0; i < standalone.size(); ++i) {
    const std::string& candidate = standalone[i].module.path;
    const bool is_outer = around < 0 || candidate.size() < standalone[around].module.path.size();
    if (pt2e::is_inside(path, candidate) && is_outer) around = static_cast<int64_t>(i);
  }
  return around;
}

}  // namespace

void require_submodule(const std::vector<Submodule>& modules, const std::string& path, const std::string& place) {
  std::vector<std::string> known;
  for (const auto& module : modules) {
    if (module.path == path) return;
    known.push_back(module.path);
  }
  throw Error(ErrorCode::kInvalidArgument, fmt::format("the model has no module \"{}\"", path), place,
              fmt::format("closest: {}", fmt::join(nearest(path, known), ", ")));
}

std::vector<StandaloneModule> find_standalone(const std::vector<Submodule>& modules,
                                              const PrepareCustomConfig& custom) {
  std::vector<StandaloneModule> found;
  for (const auto& [path, config] : custom.standalone_module_names()) {
    require_submodule(modules, path, "set_standalone_module_name");
    const auto module = std::find_if(modules.begin(), modules.end(),
                                     [&, &name = path](const Submodule& candidate) { return candidate.path == name; });
    found.push_back({*module, &config});
  }
  for (const auto& [type, config] : custom.standalone_module_classes()) {
    for (const auto& module : modules) {
      const bool is_named = std::any_of(
          found.begin(), found.end(), [&](const StandaloneModule& other) { return other.module.path == module.path; });
      if (!is_named && is_class(module.module_class, type)) found.push_back({module, &config});
    }
  }
  return found;
}

SiteTable::SiteTable(const GraphView& view, const PrepareCustomConfig& custom) : sites(view.nodes().size()) {
  const pt2e::ModulePaths paths(view);
  const auto modules = submodules_of(view.model());
  const auto in_float = paths_in_float(modules, custom);
  standalone = find_standalone(modules, custom);
  for (const auto& node : view.nodes()) {
    if (node.kind != NodeKind::kOperator) continue;
    OperatorSite& site = sites[node.id];
    site.name = operator_name(node.type);
    site.module_class = paths.caller_type(node);
    site.module_path = paths.caller_path(node);
    site.in_layer = is_layer_class(site.module_class);
    site.non_traceable = std::any_of(in_float.begin(), in_float.end(),
                                     [&](const std::string& path) { return pt2e::is_inside(site.module_path, path); });
    site.is_custom = node.node && is_opaque_call(node.node);
    if (!site.is_custom) site.standalone = standalone_around(standalone, site.module_path);
  }
}

}  // namespace tsquant::fx
