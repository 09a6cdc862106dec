#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "lowering/engines/engine.h"
#include "lowering/engines/reference_run.h"
#include "tsquant/model.h"
#include "tsquant/report.h"

namespace tsquant {

/// Values of the reference form whose operator must not be lowered, and why, by the value's number (ValueNumbers).
using KeptValues = std::map<size_t, std::string>;

/// What a layer computes for every value of its result.
struct Work {
  double multiply_adds = 0;  ///< 0: an operator without weights
  bool depthwise = false;
  bool activated = false;  ///< an activation is part of it
  double magnitude = 0;    ///< largest sum of products of absolute values that a result can be made of
  double tie = 1;          ///< codes that a result changes by when a tie inside of the kernel is rounded the other way
};

/// What the steps of lowering share: the graph, which values are codes, what each value stands for, and the report.
class LoweringContext {
 public:
  LoweringContext(Model& model, const Engine& engine, const ReferenceRun& reference, const KeptValues& kept,
                  Report& report);

  Model& model() { return model_; }
  const Model& model() const { return model_; }
  torch::jit::Graph& graph() { return *graph_; }
  const Engine& engine() const { return engine_; }
  const ReferenceRun& reference() const { return reference_; }

  /// The codes behind a dequantized activation; null when `value` is something else.
  torch::jit::Value* codes_of(const torch::jit::Value* value) const;
  const CodeParams& params_of(const torch::jit::Value* codes) const { return params_.at(codes); }
  bool holds_codes(const torch::jit::Value* value) const { return params_.count(value) > 0; }
  /// Declares that a value holds codes with these parameters.
  void set_codes(torch::jit::Value* value, const CodeParams& params) { params_[value] = params; }
  /// The same for the result of a quantizer with constant parameters and the engine's type.
  void declare_codes(const torch::jit::Node* quantizer);

  /// Declares that a new value takes the place of `original`, a value of the reference form.
  void stands_for(const torch::jit::Value* value, const torch::jit::Value* original);
  /// Declares that a new value, which the same operator computes in another spelling, takes the place of `original`.
  void renames(const torch::jit::Value* value, const torch::jit::Value* original);
  /// Declares that an operator of the reference form now computes on codes.
  void set_lowered(const torch::jit::Value* value) { lowered_.insert(value); }
  bool is_lowered(const torch::jit::Value* value) const { return lowered_.count(value) > 0; }
  void set_work(const torch::jit::Value* result, const Work& work) { work_[result] = work; }
  Work work_of(const torch::jit::Value* result) const {
    const auto found = work_.find(result);
    return found == work_.end() ? Work{} : found->second;
  }
  /// Number of the value of the reference form that this one stands for.
  c10::optional<size_t> original_of(const torch::jit::Value* value) const;
  /// Dimensions on the probe sample; -1 when it was not reached.
  int64_t rank_of(const torch::jit::Value* value) const;

  /// Whether `node` may be lowered so that its result takes the place of `result`; if not, the reason is noted.
  bool may_lower(const torch::jit::Node* node, const torch::jit::Value* result);

  /// Creates a node with one tensor result before `position`; it takes over the names of `named`.
  torch::jit::Value* insert(torch::jit::Node* position, const std::string& kind,
                            const std::vector<torch::jit::Value*>& inputs, const torch::jit::Node* named);
  torch::jit::Value* constant(torch::jit::Node* position, const c10::IValue& value);
  /// Stores `object` as an attribute of the root module and reads it before `position`.
  torch::jit::Value* attribute(torch::jit::Node* position, const std::string& name, const c10::IValue& object);

  /// Writes the kernel of an operator (or why it has none) into the report.
  void record(const torch::jit::Node* node, const std::string& kernel);
  /// Reason why an operator could not be lowered; written into the report when it is still there at the end.
  void refuse(const torch::jit::Node* node, const std::string& reason) { refusals_[node] = reason; }
  void record_refusals();

  /// Removes a node whose results nobody uses.
  void destroy(torch::jit::Node* node);
  /// Removes everything whose results nobody uses.
  void remove_dead_code();

 private:
  Model& model_;
  std::shared_ptr<torch::jit::Graph> graph_;
  const Engine& engine_;
  const ReferenceRun& reference_;
  const KeptValues& kept_;
  Report& report_;
  std::unordered_map<const torch::jit::Value*, CodeParams> params_;
  ValueNumbers numbers_;
  std::unordered_set<const torch::jit::Value*> lowered_;
  std::unordered_map<const torch::jit::Value*, Work> work_;
  std::unordered_map<const torch::jit::Node*, std::string> refusals_;
  std::unordered_map<std::string, size_t> records_;
};

/// Runs an operator by its qualified name, without a graph.
c10::IValue call_operator(const std::string& name, std::vector<c10::IValue> arguments,
                          const std::string& overload = "");

/// The activation that follows an operator and can be computed by clamping its result, or by the kernel itself, and the
/// quantization after it.
struct FusedOutput {
  torch::jit::Value* last = nullptr;          ///< float result after the absorbed activations
  std::vector<torch::jit::Node*> absorbed;    ///< relu, relu6, hardtanh, clamp nodes in order, then the activation
  std::vector<torch::jit::Node*> quantizers;  ///< all uses of `last`, when they are quantizers with equal parameters
  c10::optional<double> low, high;
  std::string activation;  ///< behind the bounds, an operator of EngineRow::activations; empty: none
  at::Tensor factors;      ///< behind the activation: one per output channel; may be undefined
  CodeParams params;

  bool quantized() const { return !quantizers.empty(); }
  bool clamps() const { return low.has_value() || high.has_value(); }
  bool is_relu() const { return low.has_value() && *low == 0 && !high.has_value(); }
  /// The value of the reference form that the kernel's result takes the place of.
  const torch::jit::Value* result() const { return quantized() ? quantizers.front()->output() : last; }
};
FusedOutput follow_output(LoweringContext& context, torch::jit::Value* value);
/// The codes of the bounds of a quantized output, of the type of the engine's activations; those of the type where it
/// has none.
std::pair<int64_t, int64_t> code_bounds(const LoweringContext& context, const FusedOutput& output);
/// Goes on past an activation that the kernel of `row` computes, and past a product with constants of the layer's
/// output channels. Where no quantizer follows them, the output stays as it is.
/// @param spatial dimensions behind that of the channels
void follow_activation(const LoweringContext& context, const EngineRow& row, int64_t channels, int64_t spatial,
                       FusedOutput& output);

/// Puts `codes` (or, when nothing was quantized, the float `result`) in the place of what follow_output found, and
/// removes the absorbed nodes. `kernel` goes into the report.
void replace_output(LoweringContext& context, const FusedOutput& output, torch::jit::Value* result,
                    const std::string& kernel);

/// Clamps codes between the codes of two real bounds, before `position`, named as `position` is.
torch::jit::Value* insert_clamp(LoweringContext& context, torch::jit::Node* position, torch::jit::Value* codes,
                                const CodeParams& params, c10::optional<double> low, c10::optional<double> high);
/// The bounds of an activation that is a clamp (relu, relu6, hardtanh, clamp); false for other operators.
bool clamp_bounds(const Model& model, const torch::jit::Node* node, c10::optional<double>& low,
                  c10::optional<double>& high);
/// Scale and zero point of aten::quantize_per_tensor with constant parameters and the type of the engine's activations.
c10::optional<CodeParams> quantizer_params(const LoweringContext& context, const torch::jit::Node* node);
/// quantize(dequantize(q)) with the parameters of q gives q: (q - z) * s / s rounds back to q - z.
bool remove_roundtrip(LoweringContext& context, torch::jit::Node* quantize);
/// f(dequantize(codes)) -> dequantize(f(codes)) for an operator whose first input is replaced and whose `results` get
/// these parameters.
void sink_below(LoweringContext& context, torch::jit::Node* node, torch::jit::Value* codes,
                const std::vector<torch::jit::Value*>& results, const CodeParams& params);
/// f(dequantize(codes)) -> dequantize(result), where `result` is what `kernel`, inserted before the node, gives.
void replace_by_codes(LoweringContext& context, torch::jit::Node* node, torch::jit::Value* result,
                      const CodeParams& params, const std::string& kernel);
bool sink_below_cat(LoweringContext& context, torch::jit::Node* node);
/// Whether the node adds two tensors, unscaled.
bool is_tensor_sum(const LoweringContext& context, const torch::jit::Node* node);
/// The row of the engine that computes an operator with one operand, or null; then the reason is noted.
const EngineRow* row_for(LoweringContext& context, torch::jit::Node* node, const std::vector<torch::jit::Value*>& codes,
                         const FusedOutput& output);
/// Replaces an operator by the row's kernel; the operator is removed.
/// @param work of a product
void apply_row(LoweringContext& context, const EngineRow& row, torch::jit::Node* node,
               const std::vector<torch::jit::Value*>& codes, const FusedOutput& output, const Work& work = {});

/// The steps, in the order of registry.inc. Each returns whether it changed the graph.
#define TSQUANT_LOWERING_STEP(name, ...) bool name(LoweringContext& context);
#include "passes/registry.inc"

/// Not a step of trials: what it changes are speed and bytes.
bool unpack_float_weights(LoweringContext& context);

}  // namespace tsquant
