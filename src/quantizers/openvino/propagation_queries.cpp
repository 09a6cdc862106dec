#include <algorithm>

#include "quantizers/openvino/propagation_solver.h"

namespace tsquant::openvino {

bool PropagationSolver::visit(int site) const {
  if (seen_[site] == stamp_) return false;
  seen_[site] = stamp_;
  return true;
}

c10::SmallVector<IdList, 2> PropagationSolver::paths_above(int hook) const {
  c10::SmallVector<IdList, 2> paths;
  for (int link : graph_.in[hook]) {
    const int above = graph_.from(link);
    if (graph_.sites[above].kind == SiteKind::kBarrier) continue;
    if (graph_.is_hook(above)) {
      paths.push_back(IdList{link});
      continue;
    }
    for (int next : graph_.in[above]) paths.push_back(IdList{link, next});
  }
  return paths;
}

bool PropagationSolver::needs_unified_scales(int hook) const {
  static const int kCat = metatype_index("PTCatMetatype");
  for (int link : graph_.in[hook]) {
    const int op = graph_.from(link);
    if (!graph_.is_operator(op) || graph_.in[op].size() < 2) continue;
    const int metatype = graph_.sites[op].metatype;
    if (metatype < 0 || !plans_[metatype].unified_scales) continue;
    if (metatype != kCat || feeds_weighted_operator(op)) return true;
  }
  return false;
}

bool PropagationSolver::feeds_weighted_operator(int site) const {
  static const MetatypeSet kWeighted = overflow_fix_metatypes() | MetatypeSet{"ScaledDotProductAttention"};
  ++stamp_;
  std::vector<int> stack = {site};
  while (!stack.empty()) {
    const int current = stack.back();
    stack.pop_back();
    for (int link : graph_.out[current]) {
      const int next = graph_.to(link);
      if (!visit(next)) continue;
      const Site& below = graph_.sites[next];
      if (below.kind != SiteKind::kOperator) {
        stack.push_back(next);
        continue;
      }
      if (below.metatype < 0) continue;
      if (kWeighted.has(below.metatype)) return true;
      if (below.trait == QuantizationTrait::kQuantizationAgnostic || plans_[below.metatype].unified_scales) {
        stack.push_back(next);
      }
    }
  }
  return false;
}

bool PropagationSolver::all_outputs_quantized(int branch) const {
  ++stamp_;
  std::vector<int> stack = {branch};
  while (!stack.empty()) {
    const int current = stack.back();
    stack.pop_back();
    for (int link : graph_.out[current]) {
      const int next = graph_.to(link);
      if (!visit(next)) continue;
      const Site& below = graph_.sites[next];
      if (below.kind == SiteKind::kOperator && below.trait != QuantizationTrait::kQuantizationAgnostic) return false;
      if (!graph_.is_hook(next) || state_.standing(next) == 0) stack.push_back(next);
    }
  }
  return true;
}

/// Marks the branches from which an output is reached without passing an operator that computes. The walk from one
/// output shares its "seen a computing operator" flag among all paths, as NNCF's does.
void PropagationSolver::find_output_dominators() {
  dominates_output_.assign(graph_.sites.size(), false);
  for (int output : graph_.outputs) {
    bool computes = false;
    std::vector<int> stack = {output};
    while (!stack.empty()) {
      const int current = stack.back();
      stack.pop_back();
      const Site& site = graph_.sites[current];
      if (graph_.out[current].size() > 1) {
        if (!computes) dominates_output_[current] = true;
        continue;
      }
      const bool moves_only =
          site.trait == QuantizationTrait::kQuantizationAgnostic || site.trait == QuantizationTrait::kConcat;
      if (site.kind == SiteKind::kOperator && !graph_.is_output(current) && !moves_only) computes = true;
      const auto in = graph_.in[current];
      for (auto link = in.rbegin(); link != in.rend(); ++link) stack.push_back(graph_.from(*link));
    }
  }
}

/// Whether an operator is quantized is known from the start: quantizers pass only operators that move values.
void PropagationSolver::find_float_consumers() {
  float_below_.assign(graph_.sites.size(), false);
  special_below_.assign(graph_.sites.size(), false);
  for (auto place = order_.rbegin(); place != order_.rend(); ++place) {
    for (int link : graph_.out[*place]) {
      const int next = graph_.to(link);
      const Site& below = graph_.sites[next];
      const bool computes =
          below.kind == SiteKind::kOperator && below.trait != QuantizationTrait::kQuantizationAgnostic;
      if (!computes) {
        float_below_[*place] = float_below_[*place] || float_below_[next];
        special_below_[*place] = special_below_[*place] || special_below_[next];
        continue;
      }
      const bool picks_ports = below.metatype >= 0 && !metatype_row(below.metatype).target_input_ports.empty();
      const bool concat = below.trait == QuantizationTrait::kConcat;
      if (picks_ports || concat) special_below_[*place] = true;
      if (!concat && state_.affecting_site(next).empty()) float_below_[*place] = true;
    }
  }
}

}  // namespace tsquant::openvino
