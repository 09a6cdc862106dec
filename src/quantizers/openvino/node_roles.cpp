#include "quantizers/openvino/node_roles.h"

#include <algorithm>
#include <string>
#include <unordered_set>

namespace tsquant::openvino {

namespace {

bool is_tensor(const torch::jit::Value* value) { return value->type()->isSubtypeOf(*c10::TensorType::get()); }

bool only_takes_out(const torch::jit::Node* node) {
  static const std::unordered_set<std::string> names = {
      "__getitem__",    "get",    "values", "items",           "TupleIndex", "TupleUnpack", "ListUnpack",
      "unchecked_cast", "select", "list",   "_unwrap_optional"};
  return (node->kind().is_aten() || node->kind().is_prim()) && names.count(node->kind().toUnqualString()) > 0;
}

}  // namespace

const OpInfo& placement_row(const ViewNode& node) {
  static const OpInfo& unknown = find_metatype("UnknownMetatype");
  if (node.op != &unknown) return *node.op;
  if (node.type == "constant_pad_nd") return find_op("pad");
  const size_t size = node.type.size();
  const bool in_place = size > 1 && node.type[size - 1] == '_' && node.type[size - 2] != '_';
  return in_place ? find_op(node.type.substr(0, size - 1)) : unknown;
}

std::vector<bool> taken_from_inputs(const GraphView& view) {
  std::vector<bool> taken(view.nodes().size(), false);
  const bool containers = std::any_of(view.nodes().begin(), view.nodes().end(), [](const ViewNode& node) {
    return node.kind == NodeKind::kInput && node.value && !is_tensor(node.value);
  });
  if (!containers) return taken;
  for (const ViewNode& node : view.nodes()) {
    if (node.kind != NodeKind::kOperator || !node.node || !node.value || node.in_edges.empty()) continue;
    const ViewNode& source = view.node(view.edge(node.in_edges.front()).from);
    const bool of_the_caller = source.kind == NodeKind::kInput || taken[source.id];
    taken[node.id] = of_the_caller && source.value && !is_tensor(source.value) && only_takes_out(node.node);
  }
  return taken;
}

}  // namespace tsquant::openvino
