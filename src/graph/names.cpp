#include "graph/names.h"

#include <torch/csrc/jit/ir/scope.h>

#include "graph/attribute_slots.h"
#include "graph/fx_names.h"
#include "graph/tensor_values.h"

namespace tsquant {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end; (end = text.find(separator, begin)) != std::string::npos; begin = end + 1)
    parts.push_back(text.substr(begin, end - begin));
  parts.push_back(text.substr(begin));
  return parts;
}

/// The function that a Python user called for an operator that TorchScript records as another one. NNCF's names hold
/// the former: F.hardswish(x, inplace=True) is `hardswish`, x[:, 0] is `__getitem__`.
std::string user_function(const std::string& function) {
  static const std::unordered_map<std::string, std::string> names = {{"hardswish_", "hardswish"},
                                                                     {"hardsigmoid_", "hardsigmoid"},
                                                                     {"hardtanh_", "hardtanh"},
                                                                     {"silu_", "silu"},
                                                                     {"elu_", "elu"},
                                                                     {"celu_", "celu"},
                                                                     {"selu_", "selu"},
                                                                     {"leaky_relu_", "leaky_relu"},
                                                                     {"dropout_", "dropout"},
                                                                     {"feature_dropout", "dropout2d"},
                                                                     {"constant_pad_nd", "pad"},
                                                                     {"upsample_nearest1d", "interpolate"},
                                                                     {"upsample_nearest2d", "interpolate"},
                                                                     {"upsample_nearest3d", "interpolate"},
                                                                     {"upsample_linear1d", "interpolate"},
                                                                     {"upsample_bilinear2d", "interpolate"},
                                                                     {"upsample_bicubic2d", "interpolate"},
                                                                     {"upsample_trilinear3d", "interpolate"}};
  const auto place = names.find(function);
  return place == names.end() ? function : place->second;
}

bool is_subscript(const Node* node) {
  return node->kind() == c10::aten::select || node->kind() == c10::aten::slice || node->kind() == c10::aten::index;
}

/// One Python subscript becomes a chain of operators; its last one carries the name.
bool ends_subscript(const Node* node) {
  if (!is_subscript(node)) return false;
  const auto& uses = node->output()->uses();
  return uses.size() != 1 || uses[0].offset != 0 || !is_subscript(uses[0].user);
}

/// Paths of modules from the call stacks that inlining left behind. As in NNCF a module's name counts when it is a
/// direct child of the module that was called before; containers that are only indexed vanish.
class ModulePaths {
 public:
  explicit ModulePaths(c10::TypePtr root) : root_(std::move(root)) {}

  const std::string& of(const Node* node) {
    const auto stack = const_cast<Node*>(node)->callstack();
    if (!stack) return empty_;
    const auto [place, is_new] = paths_.emplace(stack->get(), std::string());
    if (is_new) place->second = build(**stack);
    return place->second;
  }

 private:
  std::string build(torch::jit::InlinedCallStack& stack) const {
    std::string path;
    c10::TypePtr parent = root_;
    for (const auto& entry : stack.vec()) {
      const auto& info = std::get<torch::jit::kModuleInstanceInfo>(entry);
      const auto* function = std::get<0>(entry);
      if (!info || !info->class_type() || (function && function->name().rfind("forward", 0) != 0)) continue;
      const c10::TypePtr type = info->class_type();
      const std::string name = info->instance_name();
      if (name == "SELF") continue;
      const auto child = child_type(parent, name);
      if (child && *child == *type) path += (path.empty() ? "" : "/") + name;
      parent = type;
    }
    return path;
  }

  static c10::TypePtr child_type(const c10::TypePtr& parent, const std::string& name) {
    const auto type = parent->cast<c10::ClassType>();
    const auto slot = type ? find_attribute_slot(*type, name) : c10::nullopt;
    return slot ? type->getAttribute(*slot) : nullptr;
  }

  c10::TypePtr root_;
  std::string empty_;
  std::unordered_map<const void*, std::string> paths_;
};

class Namer {
 public:
  explicit Namer(Model& model) : graph_(*model.graph()), sizes_(graph_), paths_(graph_.inputs().at(0)->type()) {
    for (const auto& input : model.input_names()) aliases_.take(fx_wish(input));
  }

  void run(Block* block) {
    for (Node* node : block->nodes()) {
      for (Block* inner : node->blocks()) run(inner);
      const NodeRole role = role_of(node, sizes_);
      if (role == NodeRole::kUnpack) {
        name_unpack(node);
      } else if (role != NodeRole::kNone) {
        name_operator(node);
      } else {
        node->setScope(c10::make_intrusive<torch::jit::Scope>());
      }
    }
  }

 private:
  std::string next_name(const Node* node, const std::string& function) {
    const std::string base = paths_.of(node) + "/" + function;
    return base + "/" + std::to_string(ordinals_[base]++);
  }

  void name_operator(Node* node) {
    const std::string function = function_of(node);
    const std::string user = ends_subscript(node) ? "__getitem__" : user_function(function);
    NodeNames names;
    names.name = next_name(node, user);
    names.fx_name = aliases_.take(fx_wish(function));
    if (user != function) names.function = function;
    const size_t results = tensor_results(node).size();
    for (size_t i = 0; results > 1 && i < results; ++i) names.elements.push_back(aliases_.take("getitem"));
    set_names(node, names);
  }

  void name_unpack(Node* node) {
    NodeNames names;
    Node* producer = see_through(node->input())->node();
    names.name = names_of(producer).name;
    if (names.name.empty()) names.name = next_name(node, "unpack");
    for (size_t i = 0; i < node->outputs().size(); ++i) names.elements.push_back(aliases_.take("getitem"));
    names.fx_name = names.elements.empty() ? "" : names.elements.front();
    set_names(node, names);
  }

  torch::jit::Graph& graph_;
  SizeArithmetic sizes_;
  ModulePaths paths_;
  FxNames aliases_;
  std::unordered_map<std::string, int64_t> ordinals_;
};

}  // namespace

std::string NodeNames::type() const {
  if (!function.empty()) return function;
  const auto end = name.rfind('/');
  if (end == std::string::npos) return name;
  const auto begin = end == 0 ? std::string::npos : name.rfind('/', end - 1);
  return begin == std::string::npos ? name.substr(0, end) : name.substr(begin + 1, end - begin - 1);
}

void assign_names(Model& model) { Namer(model).run(model.graph()->block()); }

NodeNames names_of(const Node* node) {
  return names_in(const_cast<Node*>(node)->scope());  // scope() is not const in 1.13
}

NodeNames names_in(const torch::jit::ScopePtr& scope) {
  NodeNames names;
  if (!scope || scope->isBlank()) return names;
  const auto parts = split(scope->name().toUnqualString(), '@');
  if (parts.size() < 2) return names;
  names.name = parts[0];
  names.fx_name = parts[1];
  if (parts.size() > 2) names.function = parts[2];
  if (parts.size() > 3) names.elements = split(parts[3], ',');
  return names;
}

void set_names(Node* node, const NodeNames& names) {
  std::string text = names.name + "@" + names.fx_name;
  if (!names.function.empty() || !names.elements.empty()) text += "@" + names.function;
  for (size_t i = 0; i < names.elements.size(); ++i) text += (i == 0 ? "@" : ",") + names.elements[i];
  node->setScope(c10::make_intrusive<torch::jit::Scope>()->push(c10::Symbol::scope(text)));
}

void copy_names(const Node* from, Node* to) { to->setScope(const_cast<Node*>(from)->scope()); }

}  // namespace tsquant
