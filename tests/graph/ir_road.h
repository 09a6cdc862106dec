#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "flows/compression/weight_layers.h"
#include "ir_case.h"
#include "lowering/engines/lowering_context.h"
#include "lowering/observer_calls.h"
#include "passes/rewrite_runner.h"
#include "passes/take_training_path.h"
#include "tsquant/compress_pt2e.h"

namespace tsquant::testing {

/// Performs the rewrites of a case on its model, each with the arguments that the case gives.
class IrRoad {
 public:
  /// @param ir_case, model, sample must outlive this object
  IrRoad(const IrCase& ir_case, Model& model, const Sample& sample);

  /// Whether the rewrite changed the model. "lower_to_engine" stands for all steps, trial included.
  bool run(const std::string& name);

  /// What the report says about an operator: its kernel, or why a point was refused.
  std::string report_of(const std::string& node) const;

 private:
  bool insert();
  bool observe(FakeQuantizeType fake_quantize);
  bool train();
  bool correct_biases();
  bool restore_biases();
  bool leave_in_float();
  bool lower_to_engine();
  /// Annotates the weights as the case says and gives them to `work`.
  bool with_layers(const std::function<bool(std::vector<WeightLayer>& layers, const GraphView& view,
                                            const CompressPt2eOptions& options)>& work);
  bool compress();
  LoweringContext& context();
  KeptValues kept_values() const;

  const IrCase& ir_case_;
  Model& model_;
  const Sample& sample_;
  RewriteRunner runner_;
  std::map<std::string, std::function<bool()>> rewrites_;
  Report report_;
  ObserverNames observers_;
  ReferenceRun reference_;
  KeptValues kept_;
  std::unique_ptr<LoweringContext> context_;
};

}  // namespace tsquant::testing
