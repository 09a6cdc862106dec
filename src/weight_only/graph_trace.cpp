#include <fmt/format.h>

#include <algorithm>

#include "base/error_text.h"
#include "graph/node_lists.h"
#include "tsquant/error.h"
#include "tsquant/weight_only.h"
#include "weight_only/model_call.h"
#include "weight_only/scoped_inline.h"
#include "weight_only/wrap_forward.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Module;
using torch::jit::Node;

bool contains(const std::vector<std::string>& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

/// Traces write all convolutions as aten::_convolution, compiled code by their own names.
std::string kind_of(const Node* node) {
  const std::string kind = node->kind().toQualString();
  static const std::vector<std::string> convolutions = {
      "aten::conv1d",           "aten::conv2d",           "aten::conv3d",     "aten::conv_transpose1d",
      "aten::conv_transpose2d", "aten::conv_transpose3d", "aten::convolution"};
  return contains(convolutions, kind) ? "aten::_convolution" : kind;
}

constexpr const char* kSize = "aten::size";

}  // namespace

NodeParents get_parent(Node* node, bool all_parents) {
  NodeParents parents;
  if (node->inputs().empty()) return parents;
  if (all_parents) {
    parents.inputs = node->inputs().vec();
  } else {
    parents.node = node->input(0)->node();
  }
  return parents;
}

std::shared_ptr<Graph> GraphTrace::trace(const Module& model, const Sample& example_inputs) {
  try {
    Module copy = copy_compiled(model);
    copy.eval();
    inline_with_scopes(*copy.get_method("forward").graph());
    const Module frozen = torch::jit::freeze(copy, c10::nullopt, /*optimize_numerics=*/false);
    call_model(copy, example_inputs);
    return frozen.get_method("forward").graph();
  } catch (const Error& error) {
    warnings.push_back(error.what());
  } catch (const std::exception& error) {
    warnings.push_back("the model cannot be captured: " + short_message(error));
  }
  warnings.push_back("without a trace no layer is known that absorbs a factor");
  return nullptr;
}

GraphTrace::Nodes GraphTrace::get_nodes(Graph& graph, const std::vector<std::string>& op_types) const {
  Nodes nodes;
  for (Node* node : all_nodes(graph.block())) {
    if (contains(op_types, kind_of(node))) nodes.push_back(node);
  }
  return nodes;
}

bool GraphTrace::skip_op_absorb_helper(const Node* node) const {
  const auto& uses = node->output(0)->uses();
  return std::all_of(uses.begin(), uses.end(), [&](const torch::jit::Use& use) {
    const std::string kind = kind_of(use.user);
    if (kind == kSize || contains(could_absorb_layers, kind)) return true;
    return contains(skip_ops_to_find_absorb, kind) && skip_op_absorb_helper(use.user);
  });
}

GraphTrace::Nodes GraphTrace::get_prev_absorb_layer(const Nodes& nodes) const {
  Nodes absorbing;
  for (Node* node : nodes) {
    Node* parent = get_parent(node).node;
    while (parent && contains(skip_ops_to_find_absorb, kind_of(parent))) parent = get_parent(parent).node;
    const bool can = parent && contains(could_absorb_layers, kind_of(parent)) && skip_op_absorb_helper(parent);
    absorbing.push_back(can ? parent : nullptr);
  }
  return absorbing;
}

std::vector<std::string> GraphTrace::mapping_torch_module_to_aten(const std::vector<std::string>& op_types) {
  std::vector<std::string> kinds;
  for (const auto& type : op_types) {
    const auto row = supported_torch_module_to_aten.find(type);
    if (row == supported_torch_module_to_aten.end()) {
      std::vector<std::string> known;
      for (const auto& [name, kind] : supported_torch_module_to_aten) known.push_back(name);
      warnings.push_back(fmt::format("layers of class {} are left out, known are: {}", type, fmt::join(known, ", ")));
    } else if (!contains(kinds, row->second)) {
      kinds.push_back(row->second);
    }
  }
  return kinds;
}

}  // namespace tsquant
