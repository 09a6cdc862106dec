#pragma once

#include <string>
#include <vector>

#include "tsquant/compression_parameters.h"
#include "tsquant/quantizer.h"

namespace tsquant {

enum class QuantizationPreset {
  kPerformance,  ///< symmetric activations and weights
  kMixed,        ///< asymmetric activations, symmetric weights
};

enum class ModelType { kTransformer };

enum class TargetDevice { kAny, kCpu, kGpu, kNpu, kCpuSpr };

enum class OverflowFix {
  kEnable,      ///< half range for the weights of all convolutions and linear layers
  kFirstLayer,  ///< half range for the first convolutions only (NNCF's default)
  kDisable,
};

/// What happens where branches with different quantizer configurations meet (NNCF's QuantizerPropagationRule).
enum class QuantizerPropagationRule {
  kDoNotMergeBranches,
  kMergeIfAllBranchesSame,
  kMergeWithPotentialRequantization,
  kMergeAllInOne,
};

/// Operators to leave in float (NNCF's IgnoredScope). Names are stable names or FX aliases.
struct IgnoredScope {
  std::vector<std::string> names;
  std::vector<std::string> patterns;  ///< regular expressions (ECMAScript) that match from the start of a name or alias
  std::vector<std::string> types;     ///< operator types: `conv2d`, `aten::conv2d` or `PTConv2dMetatype`
  /// Everything on a simple path between the inputs and outputs of a sub-graph, both ends included.
  struct Subgraph {
    std::vector<std::string> inputs, outputs;
  };
  std::vector<Subgraph> subgraphs;
  bool validate = true;  ///< a rule that matches nothing is an error that offers the nearest names
};

/// Overrides of the hardware table (NNCF's QuantizationParameters): each set field filters the candidates.
struct QuantizationParameters {
  c10::optional<int64_t> num_bits;  ///< 2 to 8; a number that the table does not list replaces that of its rows
  c10::optional<QuantizationScheme> mode;
  c10::optional<bool> signedness_to_force;
  c10::optional<bool> per_channel;
  c10::optional<bool> narrow_range;  ///< of symmetric weights: replaces that of the table's rows
  /// Set: quantize to this floating-point format instead of to integers; the other fields must be unset.
  c10::optional<FP8Type> destination_type;
};

/// NNCF's FP8QuantizationParameters; converts to the general struct.
struct FP8QuantizationParameters {
  c10::optional<FP8Type> destination_type = c10::nullopt;  ///< none: the format of the mode
  operator QuantizationParameters() const {  // NOLINT: usable wherever QuantizationParameters are expected
    QuantizationParameters parameters;
    parameters.destination_type = destination_type;
    return parameters;
  }
};

/// Compress weights instead of quantizing weights and activations: what nncf.compress_weights decides for each weight.
/// For compress_pt2e; quantize_pt2e refuses such a quantizer. Unset fields: what CompressWeightsMode says.
struct WeightsOnlyOptions {
  CompressWeightsMode mode = CompressWeightsMode::kInt8Asym;
  /// Neighbours along the reduced axis that share a scale; -1: the whole channel.
  c10::optional<int64_t> group_size = c10::nullopt;
  /// The primary precision for embeddings and the last matrix multiplication too; modes of 8 bits compress them always.
  bool all_layers = false;
  c10::optional<BackupMode> backup_mode = c10::nullopt;
  GroupSizeFallbackMode group_size_fallback_mode = GroupSizeFallbackMode::kError;
  int64_t min_adjusted_group_size = 32;  ///< smallest size that GroupSizeFallbackMode::kAdjust may choose
  std::vector<float> codebook = {};      ///< levels of kCodebook, strictly ascending
};

/// Options of OpenVINOQuantizer; the names and defaults are those of nncf.experimental.torch.fx.OpenVINOQuantizer.
struct OpenVINOQuantizerOptions {
  /// Quantize weights and activations to this floating-point format. None: 8-bit integers.
  /// activations_ and weights_quantization_params with a destination_type change one of the two.
  c10::optional<QuantizationMode> mode = c10::nullopt;
  /// None: mixed for transformers, performance otherwise.
  c10::optional<QuantizationPreset> preset = c10::nullopt;
  TargetDevice target_device = TargetDevice::kAny;
  c10::optional<ModelType> model_type = c10::nullopt;
  IgnoredScope ignored_scope = {};
  /// None: kFirstLayer for 8-bit integers, kDisable for other bit widths and fp8, with which kEnable and kFirstLayer
  /// are refused. This library's kernels add without overflow on every processor: the fix is for other runtimes, on
  /// processors without VNNI.
  c10::optional<OverflowFix> overflow_fix = c10::nullopt;
  bool quantize_outputs = false;
  QuantizationParameters activations_quantization_params = {};
  QuantizationParameters weights_quantization_params = {};
  QuantizerPropagationRule quantizer_propagation_rule = QuantizerPropagationRule::kMergeAllInOne;
  /// Set: annotate weights only. No other option but ignored_scope may then differ from its default.
  c10::optional<WeightsOnlyOptions> weights_only = c10::nullopt;
};

/// Places quantizers as NNCF does for OpenVINO: hardware table, fusion patterns, propagation solver, unified scales.
/// Algorithm: nncf/common/quantization/quantizer_propagation and nncf/quantization/algorithms/min_max.
class OpenVINOQuantizer : public Quantizer {
 public:
  /// @throws Error kInvalidArgument naming the option: num_bits outside 2..8 for activations or weights; a
  ///         destination_type without `mode`; with an fp8 `mode`: a field of integer quantization, the mixed preset, a
  ///         target device other than ANY and CPU or quantize_outputs; OverflowFix::kEnable or kFirstLayer with an fp8
  ///         `mode` or with a num_bits other than 8
  explicit OpenVINOQuantizer(OpenVINOQuantizerOptions options = {});
  /// Replaces the ignored scope of the options as a whole. Its rules are read by `annotate`, which throws Error
  /// kInvalidArgument for a pattern that is no regular expression and, unless `scope.validate` is false, for a rule
  /// that matches nothing and for a sub-graph whose ends are not in the graph.
  void set_ignored_scope(IgnoredScope scope) { options_.ignored_scope = std::move(scope); }
  const OpenVINOQuantizerOptions& options() const { return options_; }
  QuantizerDescription describe() const override;
  /// Any option whose value is a word, a number or a truth value. Null in classes that derive from this one.
  std::unique_ptr<Quantizer> with_option(const std::string& option, const std::string& value) const override;

  /// Spells attention that LibTorch computes in one operator (`aten::_transformer_encoder_layer_fwd`,
  /// `aten::_native_multi_head_attention`) as the linear layers, norms and products it consists of, so that each can be
  /// quantized. `aten::_scaled_dot_product_attention` is quantized as a whole, as NNCF does, and is taken apart only
  /// when its attention weights are read. What cannot be taken apart (nested tensors) stays in float: the model gets a
  /// warning and the report the reason (code `whole_attention`).
  std::vector<std::string> rewrites_for_annotation() const override;

  /// @throws Error kInvalidArgument: an ignored-scope rule matches nothing, or an override leaves no candidate
  Annotations annotate(const GraphView& view) const override;

  /// What the propagation solver decides for this graph, as data (NNCF's get_nncf_quantization_setup). `annotate`
  /// returns the same; to_json and pt2e_json print it.
  Annotations get_quantization_setup(const GraphView& view) const { return annotate(view); }

 private:
  OpenVINOQuantizerOptions options_;
};

}  // namespace tsquant
