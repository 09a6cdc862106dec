#include "quantizers/pt2e/module_paths.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/nearest.h"
#include "tsquant/error.h"

namespace tsquant::pt2e {

namespace {

using torch::jit::Module;

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    if (end > begin) parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::string join(const std::string& path, const std::string& name) { return path.empty() ? name : path + "." + name; }

}  // namespace

bool is_inside(const std::string& path, const std::string& module) {
  if (module.empty()) return true;
  return path.compare(0, module.size(), module) == 0 && (path.size() == module.size() || path[module.size()] == '.');
}

/// LibTorch's name without its prefix and without the parts that make it unique:
/// "__torch__.torch.nn.modules.conv.___torch_mangle_3.Conv2d" -> "torch.nn.modules.conv.Conv2d".
std::string class_name(const Module& module) {
  const auto name = module.type()->name();
  std::string result;
  for (const auto& part : split(name ? name->qualifiedName() : "", '.')) {
    if (part != "__torch__" && part.rfind("___torch_mangle_", 0) != 0) result = join(result, part);
  }
  return result;
}

namespace {

size_t common_length(const std::string& a, const std::string& b) {
  const size_t size = std::min(a.size(), b.size());
  return static_cast<size_t>(std::mismatch(a.begin(), a.begin() + size, b.begin()).first - a.begin());
}

/// Class of every submodule by path.
class ModuleTree {
 public:
  explicit ModuleTree(const Module& root) { add("", root); }

  bool has(const std::string& path) const { return types_.count(path) > 0; }

  const std::string& type_of(const std::string& path) const { return types_.at(path); }

  std::vector<std::string> types_around(const std::string& path) const {
    std::vector<std::string> types{types_.at("")};
    std::string around;
    for (const auto& part : split(path, '.')) {
      around = join(around, part);
      const auto found = types_.find(around);
      if (found != types_.end()) types.push_back(found->second);
    }
    return types;
  }

  /// Paths that a node's name can stand for: each name is a child of the module before it, or of a container in it.
  const std::vector<std::string>& paths_of(const std::string& name) {
    const auto [place, is_new] = found_.emplace(name, std::vector<std::string>{""});
    if (!is_new) return place->second;
    std::vector<std::string> paths{""};
    for (const auto& part : split(name, '/')) {
      std::vector<std::string> next;
      for (const auto& path : paths) {
        if (has(join(path, part))) next.push_back(join(path, part));
      }
      for (size_t i = 0; next.empty() && i < paths.size(); ++i) collect_below(paths[i], part, next);
      if (next.empty()) break;
      paths = std::move(next);
    }
    return place->second = std::move(paths);
  }

 private:
  void add(const std::string& path, const Module& module) {
    types_.emplace(path, class_name(module));
    for (const auto& child : module.named_children()) {
      children_[path].push_back(join(path, child.name));
      add(join(path, child.name), child.value);
    }
  }

  void collect_below(const std::string& path, const std::string& name, std::vector<std::string>& found) const {
    const auto children = children_.find(path);
    if (children == children_.end()) return;
    for (const auto& child : children->second) {
      if (has(join(child, name))) found.push_back(join(child, name));
      collect_below(child, name, found);
    }
  }

  std::map<std::string, std::string> types_;
  std::map<std::string, std::vector<std::string>> children_;
  std::map<std::string, std::vector<std::string>> found_;
};

/// Module of the node's parameters; empty when it has none or they come from several modules.
std::string module_of_parameters(const GraphView& view, const ViewNode& node, const ModuleTree& tree) {
  std::string module;
  for (const int64_t id : node.in_edges) {
    const ViewNode& from = view.node(view.edge(id).from);
    const size_t end = from.name.rfind('.');
    if (from.kind != NodeKind::kParameter || end == std::string::npos) continue;
    const std::string owner = from.name.substr(0, end);
    if (!tree.has(owner) || (!module.empty() && module != owner)) return "";
    module = owner;
  }
  return module;
}

/// `layer1/0/conv1/conv2d/0` -> `layer1/0/conv1`: without the function and its ordinal.
std::string module_part(const std::string& name) {
  const size_t ordinal = name.rfind('/');
  const size_t function =
      ordinal == std::string::npos || ordinal == 0 ? std::string::npos : name.rfind('/', ordinal - 1);
  return function == std::string::npos ? "" : name.substr(0, function);
}

/// The attributes that were called one in another until the operator ran, from the call stack that inlining leaves. A
/// pass that makes a new operator may leave none; then the operator's name tells most of them.
std::string calls_around(const ViewNode& node) {
  const auto stack = node.node ? node.node->callstack() : c10::nullopt;
  if (!stack) return module_part(node.name);
  std::string calls;
  for (const auto& entry : (*stack)->vec()) {
    const auto& info = std::get<torch::jit::kModuleInstanceInfo>(entry);
    const auto* function = std::get<0>(entry);
    if (!info || !info->class_type() || (function && function->name().rfind("forward", 0) != 0)) continue;
    if (info->instance_name() != "SELF") calls += "/" + info->instance_name();
  }
  return calls;
}

}  // namespace

ModulePaths::ModulePaths(const GraphView& view)
    : view_(view),
      paths_(view.nodes().size()),
      caller_types_(view.nodes().size()),
      caller_paths_(view.nodes().size()),
      type_names_(view.nodes().size()) {
  ModuleTree tree(view.model().module());
  std::map<std::string, std::vector<std::string>> types;
  std::string before;
  for (const auto& node : view.nodes()) {
    if (node.kind != NodeKind::kOperator) continue;
    const auto& candidates = tree.paths_of(calls_around(node));
    const std::string owner = module_of_parameters(view, node, tree);
    const std::string& guide = owner.empty() ? before : owner;
    const std::string caller = *std::max_element(
        candidates.begin(), candidates.end(),
        [&](const auto& a, const auto& b) { return common_length(a, guide) < common_length(b, guide); });
    caller_types_[node.id] = tree.type_of(caller);
    caller_paths_[node.id] = caller;
    std::string& path = paths_[node.id];
    path = is_inside(owner, caller) ? owner : caller;
    before = path;
    const auto [place, is_new] = types.emplace(path, std::vector<std::string>());
    if (is_new) place->second = tree.types_around(path);
    type_names_[node.id] = place->second;
  }
}

bool ModulePaths::in_module(const ViewNode& node, const std::string& module) const {
  return node.kind == NodeKind::kOperator && is_inside(paths_[node.id], module);
}

bool ModulePaths::in_module_type(const ViewNode& node, const std::string& type) const {
  const auto& types = type_names_[node.id];
  return std::any_of(types.begin(), types.end(), [&](const std::string& name) {
    return name == type || (name.size() > type.size() && name[name.size() - type.size() - 1] == '.' &&
                            name.compare(name.size() - type.size(), type.size(), type) == 0);
  });
}

void ModulePaths::require_module(const std::string& module, const std::string& option) const {
  std::set<std::string> known;
  for (const auto& node : view_.nodes()) {
    if (in_module(node, module)) return;
    for (std::string path = paths_[node.id]; !path.empty();) {
      known.insert(path);
      const size_t dot = path.rfind('.');
      path = dot == std::string::npos ? "" : path.substr(0, dot);
    }
  }
  const auto closest = nearest(module, {known.begin(), known.end()});
  throw Error(ErrorCode::kInvalidArgument, fmt::format("no operator stands in module \"{}\"", module), option,
              closest.empty() ? "the model's operators stand in no submodule"
                              : fmt::format("closest: {}", fmt::join(closest, ", ")));
}

void ModulePaths::require_module_type(const std::string& type, const std::string& option) const {
  std::set<std::string> known;
  for (const auto& node : view_.nodes()) {
    if (in_module_type(node, type)) return;
    known.insert(type_names_[node.id].begin(), type_names_[node.id].end());
  }
  throw Error(ErrorCode::kInvalidArgument, fmt::format("no operator stands in a module of class \"{}\"", type), option,
              fmt::format("the model has {}", fmt::join(known, ", ")));
}

}  // namespace tsquant::pt2e
