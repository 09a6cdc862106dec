#include "lowering/engines/pooling_facts.h"

#include <algorithm>
#include <numeric>

#include "graph/params.h"

namespace tsquant {

using torch::jit::Node;

namespace {

bool flag(const Model& model, const Node* node, size_t input, bool unknown) {
  if (input >= node->inputs().size()) return unknown;
  const auto value = constant_of(model, node->input(input));
  return value && value->isBool() ? value->toBool() : unknown;
}

std::vector<int64_t> list(const Model& model, const Node* node, size_t input, std::vector<int64_t> unknown) {
  const auto value = constant_of(model, node->input(input));
  if (value && value->isInt()) return {value->toInt()};
  return value && value->isIntList() ? value->toIntVector() : std::move(unknown);
}

bool any_above(const std::vector<int64_t>& values, int64_t limit) {
  return std::any_of(values.begin(), values.end(), [&](int64_t v) { return v > limit; });
}

}  // namespace

void read_pooling(const Model& model, const Node* node, OpFacts& facts) {
  const std::string op = op_of(node);
  const bool max = op.rfind("max_pool", 0) == 0, average = op.rfind("avg_pool", 0) == 0;
  if ((!max && !average) || node->inputs().size() < 5) return;
  const auto window = list(model, node, 1, {1});
  facts.window = std::accumulate(window.begin(), window.end(), int64_t{1}, std::multiplies<int64_t>());
  if (window.size() == 1 && op.back() == 'd' && op[op.size() - 2] != '1' && window[0] > 1) facts.window = 2;
  const bool padded = any_above(list(model, node, 3, {1}), 0);
  if (max) {
    facts.dilated = any_above(list(model, node, 4, {2}), 1);
    facts.ceil_mode = flag(model, node, 5, true);
    return;
  }
  facts.ceil_mode = flag(model, node, 4, true);
  facts.pads_outside_count = padded && !flag(model, node, 5, false);
  if (node->inputs().size() > 6) {
    const auto divisor = constant_of(model, node->input(6));
    facts.divisor = !divisor || !divisor->isNone();
  }
}

}  // namespace tsquant
