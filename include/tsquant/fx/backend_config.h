#pragma once

#include <c10/core/ScalarType.h>
#include <c10/util/Optional.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace tsquant::fx {

/// A type of codes, and which quantizers of it a backend computes with.
struct DTypeWithConstraints {
  c10::optional<c10::ScalarType> dtype = c10::nullopt;  ///< none: any
  c10::optional<int64_t> quant_min_lower_bound = c10::nullopt, quant_max_upper_bound = c10::nullopt;
  c10::optional<double> scale_min_lower_bound = c10::nullopt;  ///< of the observer's eps
  c10::optional<double> scale_exact_match = c10::nullopt;      ///< a fixed range: only this scale
  c10::optional<int64_t> zero_point_exact_match = c10::nullopt;
};

/// Types that go together. float32 stands for what stays as it is.
struct DTypeConfig {
  DTypeWithConstraints input_dtype, output_dtype, weight_dtype;
  c10::optional<c10::ScalarType> bias_dtype = c10::nullopt;
  c10::optional<bool> is_dynamic = c10::nullopt;  ///< none: false
};

enum class ObservationType {
  kOutputUseDifferentObserverAsInput,  ///< the result has an observer of its own
  kOutputShareObserverWithInput,       ///< the result has the observer of the first input
  kInputOutputNotObserved,
};

bool operator==(const DTypeWithConstraints& a, const DTypeWithConstraints& b);
bool operator==(const DTypeConfig& a, const DTypeConfig& b);

/// What a backend can do with an operator, or with operators of which each is the only reader of the one before it.
///
/// torch.ao's entries for Python modules (root, reference, QAT and fused module, fuser method) have no counterpart:
/// in a TorchScript graph a layer is an operator, and what training needs is built from the graph.
struct BackendPatternConfig {
  BackendPatternConfig() = default;
  /// @param pattern names of operators in the order of execution ("conv2d", "relu"), or classes ("torch.nn.Softmax")
  ///        for operators that only count in a layer of this class
  explicit BackendPatternConfig(std::vector<std::string> pattern) : pattern(std::move(pattern)) {}

  BackendPatternConfig& set_pattern(std::vector<std::string> names);
  BackendPatternConfig& set_observation_type(ObservationType type);
  BackendPatternConfig& add_dtype_config(const DTypeConfig& config);
  BackendPatternConfig& set_dtype_configs(std::vector<DTypeConfig> configs);
  /// For operators whose operands may be numbers: the observation type by the count of tensors among them.
  BackendPatternConfig& set_num_tensor_args_to_observation_type(std::map<int64_t, ObservationType> types);
  /// Tensor arguments of the first operator that are no activations, counted from 0: "weight", "bias".
  BackendPatternConfig& set_input_type_to_index(std::map<std::string, int64_t> indices);

  std::vector<std::string> pattern;
  ObservationType observation_type = ObservationType::kOutputUseDifferentObserverAsInput;
  std::vector<DTypeConfig> dtype_configs;  ///< the first one that a qconfig fits counts; none: it stays in float
  std::map<int64_t, ObservationType> num_tensor_args_to_observation_type;
  std::map<std::string, int64_t> input_type_to_index;
};

bool operator==(const BackendPatternConfig& a, const BackendPatternConfig& b);

/// What a backend can quantize. Longer patterns are tried before shorter ones, and classes before names of operators.
class BackendConfig {
 public:
  explicit BackendConfig(std::string name = "") : name_(std::move(name)) {}

  BackendConfig& set_name(const std::string& name);
  /// Takes the place of an earlier entry with the same pattern.
  /// @throws Error kInvalidArgument for an empty pattern, an unknown operator, or types that contradict each other
  BackendConfig& set_backend_pattern_config(const BackendPatternConfig& config);
  BackendConfig& set_backend_pattern_configs(const std::vector<BackendPatternConfig>& configs);

  const std::string& name() const { return name_; }
  const std::vector<BackendPatternConfig>& configs() const { return configs_; }
  bool operator==(const BackendConfig& other) const { return name_ == other.name_ && configs_ == other.configs_; }

  /// As JSON text: `{"name": "native", "configs": [{"pattern": ["conv2d", "relu"], "dtype_configs": [...], ...}]}`.
  std::string to_json() const;
  /// @throws Error kInvalidArgument naming the key that is wrong, and the right one that comes closest
  static BackendConfig from_json(const std::string& text);

 private:
  std::string name_;
  std::vector<BackendPatternConfig> configs_;
};

/// Everything that LibTorch's quantized operators can do: the default.
BackendConfig get_native_backend_config();
BackendConfig get_fbgemm_backend_config();  ///< native without layer_norm
BackendConfig get_x86_backend_config();     ///< the same as fbgemm
/// As fbgemm, and additions and further activations that oneDNN computes inside of a convolution or a linear layer.
BackendConfig get_onednn_backend_config();
/// As fbgemm, and symmetric signed codes with the limits of XNNPACK.
BackendConfig get_qnnpack_backend_config();
BackendConfig get_tensorrt_backend_config();  ///< signed codes only

}  // namespace tsquant::fx
