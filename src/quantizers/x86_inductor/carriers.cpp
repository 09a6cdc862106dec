#include <algorithm>

#include "quantizers/pt2e/config.h"
#include "quantizers/x86_inductor/recipe.h"

namespace tsquant::x86_inductor {

using pt2e::AnnotationTable;
using pt2e::is_one_of;
using pt2e::Place;
using pt2e::Spec;

const std::vector<std::string>& carrying_functions() {
  static const std::vector<std::string> functions{"max_pool2d", "cat", "avg_pool2d", "adaptive_avg_pool2d", "flatten"};
  return functions;
}

const std::vector<std::string>& default_functions() {
  static const std::vector<std::string> functions = [] {
    auto all = carrying_functions();
    all.insert(all.end(), {"conv1d", "conv2d", "linear", "mul"});
    return all;
  }();
  return functions;
}

const std::vector<std::string>& quantizable_functions() {
  static const std::vector<std::string> functions = [] {
    auto all = default_functions();
    all.push_back("matmul");
    return all;
  }();
  return functions;
}

namespace {

/// The tensors that have to come from patterns in int8: all of cat, the first of the others. Empty: the operator stays
/// in float.
pt2e::NodeIds inputs_to_check(const GraphView& view, const ViewNode& node) {
  auto producers = pt2e::producers_of(view, node.id);
  if (node.type != "cat" && producers.size() > 1) producers.resize(1);
  return producers;
}

/// Codes of a flattened tensor are of use only to operators that compute on codes.
bool is_useless_flatten(const GraphView& view, const ViewNode& node) {
  const auto users = pt2e::users_of(view, node.id);
  return node.type == "flatten" && !users.empty() && std::none_of(users.begin(), users.end(), [&](int64_t user) {
           return is_one_of(view.node(user), quantizable_functions());
         });
}

void annotate_carrier(AnnotationTable& table, const ViewNode& node, const OptionalQuantizationConfig& config,
                      const PatternFilter& filter) {
  if (table.at(node.id).annotated || !filter({node.id})) return;
  if (!config) {
    table.mark({node.id});
    table.at(node.id).excluded = true;
    return;
  }
  const auto inputs = inputs_to_check(table.view(), node);
  const auto in_int8 = [&](int64_t input) { return table.at(input).annotated && table.at(input).quantized_output; };
  if (inputs.empty() || !std::all_of(inputs.begin(), inputs.end(), in_int8)) return;
  if (is_useless_flatten(table.view(), node)) return;
  table.mark({node.id});
  table.at(node.id).quantized_output = true;
  table.quantize_input(node.id, inputs.front(), pt2e::input_spec(*config));
  // cat moves codes of one scale only.
  if (!config->input_activation) return;
  for (size_t i = 1; i < inputs.size(); ++i) {
    table.quantize_input(node.id, inputs[i], Spec(Place{inputs.front(), node.id}));
  }
}

}  // namespace

void annotate_carriers(AnnotationTable& table, const OptionalQuantizationConfig& config, const PatternFilter& filter) {
  for (const auto& node : table.view().nodes()) {
    if (is_one_of(node, carrying_functions())) annotate_carrier(table, node, config, filter);
  }
}

void share_results_of_carriers(AnnotationTable& table) {
  for (const auto& node : table.view().nodes()) {
    if (!is_one_of(node, carrying_functions())) continue;
    auto& annotation = table.at(node.id);
    if (!annotation.quantized_output || annotation.inputs.empty()) continue;
    annotation.output = Spec(Place{annotation.inputs.front().first, node.id});
  }
}

}  // namespace tsquant::x86_inductor
