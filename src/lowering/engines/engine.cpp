#include "lowering/engines/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "graph/tensor_values.h"
#include "tsquant/engine.h"
#include "tsquant/error.h"

namespace tsquant {

const EngineRow* Engine::find(const std::string& op) const {
  const auto row = std::find_if(rows.begin(), rows.end(), [&](const EngineRow& r) { return op == r.op; });
  return row == rows.end() ? nullptr : &*row;
}

const Engine& engine_named(const std::string& name) {
  { const EngineGuard available(name); }
  static const std::map<std::string, Engine> engines = {{"tsquant", make_tsquant_engine()},
                                                        {"onednn", make_onednn_engine()},
                                                        {"fbgemm", make_fbgemm_engine()},
                                                        {"qnnpack", make_qnnpack_engine()}};
  return engines.at(name);
}

std::string broken_limit(const EngineRow& row, const OpFacts& facts) {
  if (facts.rank >= 0 && (facts.rank < row.min_rank || facts.rank > row.max_rank)) {
    return fmt::format("the engine's kernel does not take a tensor of {} dimensions", facts.rank);
  }
  if (facts.window > 0) {
    if (facts.window < row.min_window) return "the engine does not pool over a single element";
    if (facts.divisor && !row.divisor) return "the engine's pooling ignores divisor_override";
    if (facts.ceil_mode && !row.ceil_mode) return "the engine's pooling ignores ceil_mode";
    if (facts.pads_outside_count && !row.count_without_padding) return "the engine's pooling counts the padding";
    if (facts.dilated && !row.dilation) return "the engine's pooling ignores the dilation";
  }
  if (!facts.result) return "";
  for (const CodeParams& operand : facts.operands) {
    const double ratio = operand.scale / facts.result->scale;
    if (ratio >= row.min_scale_ratio && ratio < row.max_scale_ratio) continue;
    return fmt::format("the engine's kernel does not take an operand with {:.3g} times the result's scale", ratio);
  }
  return "";
}

std::string op_of(const torch::jit::Node* node) {
  std::string kind = function_of(node);
  if (kind.size() > 1 && kind.back() == '_') kind.pop_back();
  return kind;
}

}  // namespace tsquant
