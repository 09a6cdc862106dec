#include "lowering/engines/cost_model.h"
#include "lowering/engines/engine_check.h"
#include "lowering/engines/lowering_context.h"
#include "lowering/engines/trial.h"
#include "lowering/lowering.h"
#include "tsquant/engine.h"

namespace tsquant {

namespace {

/// Trials after which an operator that still fails takes all others with it.
constexpr int kMostTrials = 12;

void lower_graph(LoweringContext& context) {
  fold_channel_scales(context);
  unify_activation_types(context);
  sink_dequantize(context);
  context.remove_dead_code();
  fuse_conv_add(context);
  lower_convolutions_and_linear(context);
  lower_additions_and_products(context);
  lower_concatenations(context);
  lower_pooling(context);
  lower_unary(context);
  lower_quantizers(context);
  context.remove_dead_code();
  restore_layout(context);
  context.record_refusals();
  lower_dequantizers(context);
}

/// All values that a graph could be lowered at, with one reason.
KeptValues keep_all(size_t values, const std::string& reason) {
  KeptValues kept;
  for (size_t number = 0; number < values; ++number) kept.emplace(number, reason);
  return kept;
}

/// Rates to judge by; none: everything is lowered.
std::vector<CostRates> rates_for(LoweringCost cost) {
  if (cost == LoweringCost::kOff) return {};
  return cost == LoweringCost::kMeasure ? std::vector<CostRates>{measure_costs()} : cost_table();
}

/// Lowers a copy and asks where float is faster.
FloatIslands find_slow_islands(const Model& model, const Engine& engine, const ReferenceRun& reference,
                               const Report& report, const std::vector<CostRates>& rates) {
  if (rates.empty()) return {};
  Model copy = model.clone();
  Report unused = report;
  const KeptValues none;
  LoweringContext context(copy, engine, reference, none, unused);
  lower_graph(context);
  return find_float_islands(context, rates);
}

/// Lowers copies until what runs is what the reference form computes. An operator that deviates or fails stays as Q/DQ
/// alone.
KeptValues find_kept(const Model& model, const Engine& engine, const ReferenceRun& reference, const Report& report,
                     const Sample& probe) {
  KeptValues kept;
  for (int trial = 0; trial < kMostTrials; ++trial) {
    Model copy = model.clone();
    Report unused = report;
    LoweringContext context(copy, engine, reference, kept, unused);
    lower_graph(context);
    const KeptValues found = try_out(copy, context, probe);
    const size_t before = kept.size();
    kept.insert(found.begin(), found.end());
    if (kept.size() == before) return kept;
  }
  return keep_all(reference.sizes.size(), "other operators of this model fail in the engine");
}

}  // namespace

void lower_to_engine(Model& model, const std::string& engine_name, LoweringCost cost, const Sample& probe,
                     Report& report) {
  const Engine& engine = engine_named(engine_name);
  const EngineGuard guard(engine_name);
  const bool for_speed = cost != LoweringCost::kOff;
  ReferenceRun reference = run_reference(model, probe);
  const FloatIslands islands = find_slow_islands(model, engine, reference, report, rates_for(cost));
  if (!islands.empty()) {
    leave_in_float(model, islands);
    reference = run_reference(model, probe);
  }
  const KeptValues kept = find_kept(model, engine, reference, report, probe);
  if (engine.packs_for_selection) add_engine_check(model, engine.name);
  LoweringContext context(model, engine, reference, kept, report);
  lower_graph(context);
  explain_islands(islands, report);  // lowering saw operators that nothing quantizes
  if (for_speed) unpack_float_weights(context);
}

}  // namespace tsquant
