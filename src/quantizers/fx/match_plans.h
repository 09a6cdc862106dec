#pragma once

#include <string>
#include <vector>

#include "quantizers/fx/pattern_matches.h"
#include "quantizers/fx/qconfig_rules.h"
#include "quantizers/fx/site_table.h"
#include "tsquant/annotation.h"

namespace tsquant::fx {

/// What happens with the operators of a match.
struct MatchPlan {
  PatternMatch match;
  const DTypeConfig* types = nullptr;  ///< null: they stay in float, `refusal` says why
  QConfig qconfig;                     ///< of the first operator, when it is quantized
  ObserverConfig input;                ///< of what it reads; of fixed ranges, not the qconfig's
  bool has_input = true;               ///< false: no observer is known for what it reads
  Refusal refusal;                     ///< without a node
  /// Of a module that is prepared for itself: what its custom configuration says about its arguments and its result.
  const PrepareCustomConfig* standalone = nullptr;

  bool reuses_input() const { return qconfig.activation.type == ObserverType::kReuseInput; }
};

/// What a quantizer was told, applied to one graph.
class GraphPlan {
 public:
  /// @throws Error kInvalidArgument, see FxQuantizer::annotate
  GraphPlan(const GraphView& view, const QConfigMapping& mapping, const PrepareCustomConfig& custom,
            const BackendConfig& backend);

  const std::vector<MatchPlan>& plans() const { return plans_; }
  /// Null for an operator of no pattern.
  const MatchPlan* plan_of(int64_t node) const { return plan_of_[node] < 0 ? nullptr : &plans_[plan_of_[node]]; }
  const OptionalQConfig& qconfig(int64_t node) const { return qconfigs_[node]; }
  const OperatorSite& site(int64_t node) const { return sites_.at(node); }

 private:
  void require_kept_apart() const;
  void read_qconfigs();
  bool may_fuse(int64_t producer, int64_t consumer) const;
  MatchPlan plan(PatternMatch match) const;
  MatchPlan plan_custom(int64_t node) const;
  const PrepareCustomConfig* standalone_config(int64_t node) const;
  void check_types(const PatternMatch& match) const;
  void check_fixed_range(const PatternMatch& match, const QConfig& qconfig) const;
  void check_weight(int64_t node, const MatchPlan& plan) const;
  bool computes_stored_weight(int64_t node, const BackendPatternConfig& config, const QConfig& qconfig) const;
  void set_input(MatchPlan& plan) const;
  const QConfigRules& rules_of(int64_t node) const { return rules_[site(node).standalone + 1]; }

  const GraphView& view_;
  SiteTable sites_;
  std::vector<QConfigRules> rules_;        ///< of the model, then of its standalone modules
  std::vector<OptionalQConfig> qconfigs_;  ///< by node
  std::vector<MatchPlan> plans_;
  std::vector<int64_t> plan_of_;  ///< by node, -1: none
};

}  // namespace tsquant::fx
