#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <unordered_map>
#include <vector>

#include "tsquant/model.h"
#include "tsquant/report.h"

namespace tsquant {

/// Scale and zero point of a quint8 activation.
struct CodeParams {
  double scale = 1;
  int64_t zero_point = 0;
  bool operator==(const CodeParams& o) const { return scale == o.scale && zero_point == o.zero_point; }
};

/// What the steps of lowering share: the graph, which values are codes, and the report.
class Lowering {
 public:
  Lowering(Model& model, std::string engine, Report& report);

  Model& model() { return model_; }
  const Model& model() const { return model_; }
  torch::jit::Graph& graph() { return *graph_; }
  bool own_kernels() const { return engine_ == "tsquant"; }
  const std::string& engine() const { return engine_; }

  /// The codes behind a dequantized activation; null when `value` is something else.
  torch::jit::Value* codes_of(const torch::jit::Value* value) const;
  const CodeParams& params_of(const torch::jit::Value* codes) const { return params_.at(codes); }
  /// Declares that a value holds codes with these parameters.
  void set_codes(torch::jit::Value* value, const CodeParams& params) { params_[value] = params; }

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
  std::string engine_;
  Report& report_;
  std::unordered_map<const torch::jit::Value*, CodeParams> params_;
  std::unordered_map<const torch::jit::Node*, std::string> refusals_;
  std::unordered_map<std::string, size_t> records_;
};

/// Runs an operator by its qualified name, without a graph.
c10::IValue call_operator(const std::string& name, std::vector<c10::IValue> arguments,
                          const std::string& overload = "");

/// The activation that follows an operator and can be computed by clamping its result, and the quantization after it.
struct FusedOutput {
  torch::jit::Value* last = nullptr;          ///< float result after the absorbed activations
  std::vector<torch::jit::Node*> absorbed;    ///< relu, relu6, hardtanh, clamp nodes in order
  std::vector<torch::jit::Node*> quantizers;  ///< all uses of `last`, when they are quantizers with equal parameters
  c10::optional<double> low, high;
  CodeParams params;

  bool quantized() const { return !quantizers.empty(); }
  bool clamps() const { return low.has_value() || high.has_value(); }
  bool is_relu() const { return low.has_value() && *low == 0 && !high.has_value(); }
};
FusedOutput follow_output(Lowering& lowering, torch::jit::Value* value);

/// Puts `codes` (or, when nothing was quantized, the float `result`) in the place of what follow_output found, and
/// removes the absorbed nodes. `kernel` goes into the report.
void replace_output(Lowering& lowering, const FusedOutput& output, torch::jit::Value* result,
                    const std::string& kernel);

/// Clamps codes between the codes of two real bounds, before `position`, named as `position` is.
torch::jit::Value* insert_clamp(Lowering& lowering, torch::jit::Node* position, torch::jit::Value* codes,
                                const CodeParams& params, c10::optional<double> low, c10::optional<double> high);
/// The bounds of an activation that is a clamp (relu, relu6, hardtanh, clamp); false for other operators.
bool clamp_bounds(const Model& model, const torch::jit::Node* node, c10::optional<double>& low,
                  c10::optional<double>& high);
/// Scale and zero point of aten::quantize_per_tensor with constant parameters and dtype quint8.
c10::optional<CodeParams> quantizer_params(const Model& model, const torch::jit::Node* node);
/// quantize(dequantize(q)) with the parameters of q gives q: (q - z) * s / s rounds back to q - z.
bool remove_roundtrip(Lowering& lowering, torch::jit::Node* quantize);
/// f(dequantize(codes)) -> dequantize(f(codes)) for an operator whose first input is replaced and whose `results` get
/// these parameters.
void sink_below(Lowering& lowering, torch::jit::Node* node, torch::jit::Value* codes,
                const std::vector<torch::jit::Value*>& results, const CodeParams& params);
bool sink_below_cat(Lowering& lowering, torch::jit::Node* node);
/// Whether the node adds two tensors, unscaled.
bool is_tensor_sum(const Lowering& lowering, const torch::jit::Node* node);

// The steps, in the order of lower_to_engine.

/// Activations of depthwise convolutions that are quantized per channel: the scales move into the weights on both
/// sides, and one scale for the whole tensor remains.
void fold_channel_scales(Lowering& lowering);
/// LibTorch's and our kernels take unsigned activations: qint8 with zero point z becomes quint8 with z + 128, which
/// stands for the same real values. Also declares the codes.
void make_activations_unsigned(Lowering& lowering);
/// f(dequantize(q)) -> dequantize(f(q)) for operators that only move values or take their maximum, then
/// quantize(dequantize(q)) with equal parameters -> q.
void sink_dequantize(Lowering& lowering);
void fuse_conv_add(Lowering& lowering);
void lower_convolutions_and_linear(Lowering& lowering);
void lower_additions_and_products(Lowering& lowering);
void lower_concatenations(Lowering& lowering);
void lower_pooling(Lowering& lowering);
void lower_unary(Lowering& lowering);
/// Own kernels only: the remaining quantizers of float tensors, and changes of scale.
void lower_quantizers(Lowering& lowering);

}  // namespace tsquant
