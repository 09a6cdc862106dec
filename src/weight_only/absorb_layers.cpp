#include <torch/csrc/jit/ir/constants.h>

#include <algorithm>

#include "graph/node_lists.h"
#include "tsquant/weight_only.h"
#include "weight_only/model_call.h"
#include "weight_only/module_tree.h"
#include "weight_only/scoped_inline.h"

namespace tsquant {

namespace {

using torch::jit::Module;
using torch::jit::Node;

/// A constant of compiled modules; traces have it in the operator only. None when neither tells.
c10::optional<int64_t> groups_of(const Module& convolution) {
  if (convolution.hasattr("groups") && convolution.attr("groups").isInt()) return convolution.attr("groups").toInt();
  const auto forward = convolution.find_method("forward");
  if (!forward) return c10::nullopt;
  for (const Node* node : nodes_of_kind(forward->graph()->block(), {"aten::_convolution", "aten::conv2d"})) {
    const size_t place = node->kind() == c10::aten::conv2d ? 6 : 8;
    const auto groups = torch::jit::toIValue(node->input(place));
    if (groups && groups->isInt()) return groups->toInt();
  }
  return c10::nullopt;
}

/// Not a Conv2d, or one without groups, or a depthwise one with as many outputs as inputs.
bool is_valid_convolution(const Module& module) {
  if (class_name(module) != "Conv2d") return true;
  const auto groups = groups_of(module);
  if (!groups || !module.hasattr("weight") || !module.attr("weight").isTensor()) return false;
  const auto& weight = module.attr("weight").toTensor();
  return *groups == 1 || (weight.size(1) == 1 && weight.size(0) == *groups);
}

void add_layer(AbsorbTable& table, const std::string& absorber, const std::string& layer) {
  const auto row = std::find_if(table.begin(), table.end(), [&](const auto& entry) { return entry.first == absorber; });
  if (row == table.end()) {
    table.push_back({absorber, {layer}});
  } else {
    row->second.push_back(layer);
  }
}

}  // namespace

AbsorbTable GraphTrace::remove_unsupported_layers(const Module& model, const AbsorbTable& absorb_to_layer,
                                                  std::vector<std::string>& no_absorb_layers) const {
  const auto is_known = [&](const Module& module) {
    return supported_torch_module_to_aten.count(class_name(module)) > 0;
  };
  AbsorbTable supported;
  for (const auto& row : absorb_to_layer) {
    const auto& [absorber, layers] = row;
    const bool fits = is_known(get_module(model, absorber)) &&
                      std::all_of(layers.begin(), layers.end(), [&](const std::string& name) {
                        const Module layer = get_module(model, name);
                        return is_known(layer) && is_valid_convolution(layer);
                      });
    if (fits) {
      supported.push_back(row);
    } else {
      no_absorb_layers.insert(no_absorb_layers.end(), layers.begin(), layers.end());
    }
  }
  return supported;
}

c10::optional<AbsorbLayers> GraphTrace::get_absorb_to_layer(const Module& model, const Sample& example_inputs,
                                                            const std::vector<std::string>& op_types,
                                                            bool skip_unsupported_layers) {
  const auto graph = trace(model, example_inputs);
  if (!graph) return c10::nullopt;
  const Nodes nodes = get_nodes(*graph, mapping_torch_module_to_aten(op_types));
  const Nodes absorbing = get_prev_absorb_layer(nodes);
  AbsorbLayers result;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const std::string layer = module_name_of(nodes[i]);
    const std::string absorber = absorbing[i] ? module_name_of(absorbing[i]) : "";
    if (layer.empty()) continue;
    if (!absorbing[i]) result.no_absorb_layers.push_back(layer);
    if (!absorber.empty()) add_layer(result.absorb_to_layer, absorber, layer);
  }
  if (skip_unsupported_layers) {
    result.absorb_to_layer = remove_unsupported_layers(model, result.absorb_to_layer, result.no_absorb_layers);
  }
  result.warnings = warnings;
  return result;
}

AbsorbLayers get_absorb_layers(const Module& model, const Sample& example_inputs,
                               const std::vector<std::string>& supported_layers) {
  GraphTrace tracer;
  AbsorbLayers result;
  if (auto found = tracer.get_absorb_to_layer(model, example_inputs, supported_layers)) {
    result = std::move(*found);
  } else {
    result.warnings = tracer.warnings;
    for (const auto& [name, module] : all_modules(model)) {
      if (class_name(module) == "Linear") result.no_absorb_layers.push_back(name);
    }
  }
  if (result.absorb_to_layer.empty()) result.warnings.push_back("no layer was found that absorbs a factor");
  return result;
}

AbsorbLayers get_absorb_layers(const Module& model, const c10::IValue& example_inputs,
                               const std::vector<std::string>& supported_layers) {
  return get_absorb_layers(model, call_of_input(model, example_inputs), supported_layers);
}

}  // namespace tsquant
