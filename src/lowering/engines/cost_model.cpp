#include "lowering/engines/cost_model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <numeric>

#include "graph/names.h"
#include "graph/node_lists.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// What an island must lose to be left in float, in the unit of CostRates: about ten microseconds. Less is noise, and
/// integer weights are smaller.
constexpr double kSmallestLoss = 500;

/// Groups of values of codes that operators connect.
class Islands {
 public:
  const Value* root(const Value* value) {
    const auto parent = parents_.emplace(value, value).first;
    if (parent->second == value) return value;
    const Value* top = root(parent->second);
    parents_[value] = top;
    return top;
  }
  void join(const Value* a, const Value* b) { parents_[root(a)] = root(b); }

 private:
  std::unordered_map<const Value*, const Value*> parents_;
};

/// The codes that an operator reads and writes, those in lists included.
std::vector<const Value*> codes_at(const LoweringContext& context, const Node* node) {
  std::vector<const Value*> codes;
  const auto add = [&](const Value* value) {
    if (context.holds_codes(value)) codes.push_back(value);
  };
  for (const Value* input : node->inputs()) {
    add(input);
    if (input->node()->kind() == c10::prim::ListConstruct) {
      for (const Value* element : input->node()->inputs()) add(element);
    }
  }
  for (const Value* output : node->outputs()) add(output);
  return codes;
}

double thousands_of(const LoweringContext& context, const Value* value) {
  const auto number = context.original_of(value);
  if (!number || !context.reference().sizes[*number]) return 0;
  const auto& sizes = *context.reference().sizes[*number];
  return static_cast<double>(std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<int64_t>())) /
         1000;
}

struct Cost {
  double int8 = 0, floats = 0;
};

Cost cost_of(const LoweringContext& context, const Node* node, const CostRates& rates) {
  const Value* result = node->output();
  const double values = thousands_of(context, result);
  if (node->kind() == c10::Symbol::fromQualString("tsquant::quantize")) return {values * rates.quantize, 0};
  if (is_dequantizer(node)) return {thousands_of(context, node->input(0)) * rates.dequantize, 0};
  if (node->kind().is_aten()) return {};  // moves codes as it would move floats
  const Work work = context.work_of(result);
  if (work.multiply_adds == 0) return {values * rates.int8_values, values * rates.float_values};
  const double macs = values * work.multiply_adds;
  const double activation = work.activated ? values * rates.float_values : 0;
  return {layer_cost(rates, macs, work.depthwise, true), layer_cost(rates, macs, work.depthwise, false) + activation};
}

struct Island {
  std::vector<const Node*> nodes;
  std::vector<const Value*> codes;
};

std::string slower_on(const LoweringContext& context, const Island& island, const std::vector<CostRates>& targets) {
  for (const CostRates& rates : targets) {
    Cost sum;
    for (const Node* node : island.nodes) {
      const Cost cost = cost_of(context, node, rates);
      sum.int8 += cost.int8;
      sum.floats += cost.floats;
    }
    if (sum.int8 > sum.floats + kSmallestLoss) {
      if (sum.floats == 0) return "no operator would compute with the codes: they only cost conversions";
      return fmt::format("int8 with its conversions is estimated at {:.1f} times the time of float ({})",
                         sum.int8 / sum.floats, rates.target);
    }
  }
  return "";
}

}  // namespace

FloatIslands find_float_islands(LoweringContext& context, const std::vector<CostRates>& targets) {
  Islands groups;
  const auto nodes = all_nodes(context.graph().block());
  for (const Node* node : nodes) {
    const auto codes = codes_at(context, node);
    for (const Value* value : codes) groups.join(codes.front(), value);
  }
  std::map<const Value*, Island> islands;
  for (const Node* node : nodes) {
    const auto codes = codes_at(context, node);
    if (codes.empty() || node->outputs().size() != 1) continue;
    Island& island = islands[groups.root(codes.front())];
    island.nodes.push_back(node);
    island.codes.insert(island.codes.end(), codes.begin(), codes.end());
  }
  FloatIslands found;
  for (const auto& [root, island] : islands) {
    const std::string reason = slower_on(context, island, targets);
    if (reason.empty()) continue;
    for (const Value* value : island.codes) {
      if (const auto number = context.original_of(value)) found.quantizers.emplace(*number, reason);
    }
    for (const Node* node : island.nodes) {
      const std::string name = names_of(node).name;
      if (!name.empty()) found.operators.emplace(name, reason);
    }
  }
  return found;
}

bool leave_in_float(Model& reference, const FloatIslands& islands) {
  auto graph = reference.graph();
  const ValueNumbers numbers = number_values(*graph);
  bool changed = false;
  for (Node* node : nodes_of_kind(graph->block(), {"aten::quantize_per_tensor"})) {
    if (islands.quantizers.count(numbers.at(node->output())) == 0) continue;
    for (const auto& use : std::vector<torch::jit::Use>(node->output()->uses())) {
      if (!is_dequantizer(use.user)) continue;
      use.user->output()->replaceAllUsesWith(node->input(0));
      changed = true;
    }
  }
  return changed;
}

void explain_islands(const FloatIslands& islands, Report& report) {
  for (NodeRecord& record : report.nodes) {
    const auto found = islands.operators.find(record.name);
    if (found == islands.operators.end()) continue;
    record.quantized = false;
    record.code = "not_faster";
    record.reason = found->second;
    record.kernel = "float: " + found->second;
  }
}

}  // namespace tsquant
