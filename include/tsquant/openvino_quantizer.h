#pragma once

#include <string>
#include <vector>

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
  c10::optional<int64_t> num_bits;
  c10::optional<QuantizationMode> mode;
  c10::optional<bool> signedness_to_force;
  c10::optional<bool> per_channel;
  c10::optional<bool> narrow_range;
};

/// Options of OpenVINOQuantizer; the names and defaults are those of nncf.experimental.torch.fx.OpenVINOQuantizer.
struct OpenVINOQuantizerOptions {
  /// None: mixed for transformers, performance otherwise.
  c10::optional<QuantizationPreset> preset = c10::nullopt;
  c10::optional<ModelType> model_type = c10::nullopt;
  TargetDevice target_device = TargetDevice::kAny;
  IgnoredScope ignored_scope = {};
  OverflowFix overflow_fix = OverflowFix::kFirstLayer;
  bool quantize_outputs = false;
  QuantizationParameters activations_quantization_params = {};
  QuantizationParameters weights_quantization_params = {};
  QuantizerPropagationRule quantizer_propagation_rule = QuantizerPropagationRule::kMergeAllInOne;
};

/// Places quantizers as NNCF does for OpenVINO: hardware table, fusion patterns, propagation solver, unified scales.
/// Algorithm: nncf/common/quantization/quantizer_propagation and nncf/quantization/algorithms/min_max.
class OpenVINOQuantizer : public Quantizer {
 public:
  explicit OpenVINOQuantizer(OpenVINOQuantizerOptions options = {});
  void set_ignored_scope(IgnoredScope scope) { options_.ignored_scope = std::move(scope); }
  const OpenVINOQuantizerOptions& options() const { return options_; }

  /// @throws Error kInvalidArgument: an ignored-scope rule matches nothing, or an override leaves no candidate
  Annotations annotate(const GraphView& view) const override;

 private:
  OpenVINOQuantizerOptions options_;
};

}  // namespace tsquant
