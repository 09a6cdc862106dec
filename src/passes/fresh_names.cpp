#include "passes/fresh_names.h"

#include "graph/names.h"
#include "graph/node_lists.h"

namespace tsquant {

using torch::jit::Node;

FreshNames::FreshNames(const Model& model) {
  for (const auto& input : model.input_names()) aliases_.take(fx_wish(input));
  for (const Node* node : all_nodes(model.graph()->block())) {
    const NodeNames names = names_of(node);
    taken_.insert(names.name);
    if (!names.fx_name.empty()) aliases_.take(names.fx_name);
    for (const auto& element : names.elements) aliases_.take(element);
  }
}

std::string FreshNames::next_name(const std::string& base) {
  for (int64_t& ordinal = ordinals_[base];; ++ordinal) {
    const std::string name = base + "/" + std::to_string(ordinal);
    if (taken_.insert(name).second) return name;
  }
}

void FreshNames::give(Node* node, const std::string& path, const SizeArithmetic& sizes) {
  const NodeRole role = role_of(node, sizes);
  if (role == NodeRole::kNone) {
    node->setScope(c10::make_intrusive<torch::jit::Scope>());
    return;
  }
  NodeNames names;
  if (role == NodeRole::kUnpack) {
    names.name = names_of(see_through(node->input())->node()).name;
    for (size_t i = 0; i < node->outputs().size(); ++i) names.elements.push_back(aliases_.take("getitem"));
    names.fx_name = names.elements.empty() ? "" : names.elements.front();
  } else {
    const std::string function = function_of(node);
    names.name = next_name(path + "/" + function);
    names.fx_name = aliases_.take(fx_wish(function));
    const size_t results = tensor_results(node).size();
    for (size_t i = 0; results > 1 && i < results; ++i) names.elements.push_back(aliases_.take("getitem"));
  }
  set_names(node, names);
}

std::string module_path(const Node* node) {
  const std::string name = names_of(node).name;
  const auto ordinal = name.rfind('/');
  const auto function = ordinal == std::string::npos || ordinal == 0 ? std::string::npos : name.rfind('/', ordinal - 1);
  return function == std::string::npos ? "" : name.substr(0, function);
}

}  // namespace tsquant
