#include <algorithm>
#include <cmath>

#include "tsquant/fx/backend_config.h"

// torch/ao/quantization/backend_config: what each backend quantizes. One row for all spellings of an operator.
namespace tsquant::fx {

namespace {

constexpr auto kOwn = ObservationType::kOutputUseDifferentObserverAsInput;
constexpr auto kShared = ObservationType::kOutputShareObserverWithInput;

/// Rows of one group have equal types in every backend.
enum class Group {
  kWeighted,
  kLinear,
  kPlain,
  kUnitRange,
  kSymmetricUnitRange,
  kFloatWeights,
  kRecurrent,
  kEmbedding,
  kFloat
};

struct Row {
  std::vector<std::vector<std::string>> patterns;
  Group group;
  ObservationType observation_type = kOwn;
  std::map<std::string, int64_t> indices = {};
  bool counts_tensors = false;  ///< operands may be numbers: with one tensor the result has its parameters
};

const std::map<std::string, int64_t> kWeightAndBias{{"weight", 1}, {"bias", 2}};

// Source: the lists of 1.13. torch.relu counts as relu, and methods as the functions of their name. What FX can only
// meet on integers (floordiv, size, shape) has no row. Dropout does nothing here, so it shares instead of having an
// observer of its own. nn.GroupNorm stays in float while functional.group_norm does not.
const std::vector<Row>& rows() {
  static const std::vector<Row> table{
      {{{"conv1d"}, {"conv2d"}, {"conv3d"}, {"conv1d", "relu"}, {"conv2d", "relu"}, {"conv3d", "relu"}},
       Group::kWeighted,
       kOwn,
       kWeightAndBias},
      {{{"conv_transpose1d"}, {"conv_transpose2d"}, {"conv_transpose3d"}}, Group::kWeighted, kOwn, kWeightAndBias},
      {{{"linear"}, {"linear", "relu"}}, Group::kLinear, kOwn, kWeightAndBias},
      {{{"add"}, {"add", "relu"}, {"mul"}, {"mul", "relu"}}, Group::kWeighted, kOwn, {}, true},
      {{{"matmul"}}, Group::kWeighted},
      {{{"cat"}}, Group::kPlain, kShared},
      {{{"elu"}, {"hardswish"}, {"leaky_relu"}}, Group::kPlain},
      {{{"prelu"}, {"instance_norm"}, {"group_norm"}}, Group::kPlain, kOwn, kWeightAndBias},
      {{{"torch.nn.GroupNorm"}}, Group::kFloat},
      {{{"hardsigmoid"}, {"sigmoid"}, {"torch.nn.Softmax"}}, Group::kUnitRange},
      {{{"tanh"}}, Group::kSymmetricUnitRange},
      {{{"adaptive_avg_pool1d"},
        {"adaptive_avg_pool2d"},
        {"adaptive_avg_pool3d"},
        {"avg_pool1d"},
        {"avg_pool2d"},
        {"avg_pool3d"},
        {"max_pool1d"},
        {"max_pool2d"},
        {"max_pool3d"},
        {"dropout"},
        {"hardtanh"},
        {"relu"},
        {"relu6"},
        {"clamp"},
        {"interpolate"},
        {"mean"},
        {"flatten"},
        {"repeat"},
        {"repeat_interleave"},
        {"transpose"},
        {"permute"},
        {"reshape"},
        {"view"},
        {"resize"},
        {"squeeze"},
        {"unsqueeze"},
        {"stack"},
        {"contiguous"},
        {"detach"}},
       Group::kPlain,
       kShared},
      {{{"torch.nn.BatchNorm2d"},
        {"torch.nn.BatchNorm3d"},
        {"torch.nn.BatchNorm2d", "relu"},
        {"torch.nn.BatchNorm3d", "relu"}},
       Group::kPlain},
      {{{"layer_norm"}}, Group::kFloatWeights, kOwn, kWeightAndBias},
      {{{"gru_cell"}, {"lstm_cell"}, {"rnn_tanh_cell"}, {"rnn_relu_cell"}, {"lstm"}, {"gru"}}, Group::kRecurrent},
      {{{"embedding"}, {"embedding_bag"}}, Group::kEmbedding, kOwn, {{"weight", 0}}},
  };
  return table;
}

/// What oneDNN computes behind a convolution or a linear layer.
const std::vector<Row>& onednn_rows() {
  static const std::vector<Row> table{
      {{{"conv2d", "add"}, {"conv2d", "add", "relu"}}, Group::kWeighted, kOwn, kWeightAndBias},
      {{{"linear", "leaky_relu"}, {"linear", "tanh"}}, Group::kLinear, kOwn, kWeightAndBias},
  };
  return table;
}

const std::vector<Row>& tensorrt_rows() {
  static const std::vector<Row> table{
      {{{"addmm"}}, Group::kWeighted, kOwn, {{"weight", 2}, {"bias", 0}}},
  };
  return table;
}

DTypeWithConstraints type_of(c10::ScalarType dtype) {
  DTypeWithConstraints type;
  type.dtype = dtype;
  return type;
}

DTypeConfig types(c10::ScalarType input, c10::ScalarType output, c10::ScalarType weight, bool is_dynamic = false) {
  DTypeConfig config;
  config.input_dtype = type_of(input);
  config.output_dtype = type_of(output);
  config.weight_dtype = type_of(weight);
  config.bias_dtype = c10::kFloat;
  if (is_dynamic) config.is_dynamic = true;
  return config;
}

DTypeConfig without_weight(c10::ScalarType input, c10::ScalarType output) {
  DTypeConfig config;
  config.input_dtype = type_of(input);
  config.output_dtype = type_of(output);
  return config;
}

DTypeConfig fixed(DTypeConfig config, double scale, int64_t zero_point) {
  config.output_dtype.scale_exact_match = scale;
  config.output_dtype.zero_point_exact_match = zero_point;
  return config;
}

/// XNNPACK's smallest scale, and its weights without -128.
DTypeConfig for_xnnpack(DTypeConfig config) {
  const double smallest = std::exp2(-12);
  config.input_dtype.scale_min_lower_bound = config.output_dtype.scale_min_lower_bound = smallest;
  if (config.weight_dtype.dtype) {
    config.weight_dtype.scale_min_lower_bound = smallest;
    config.weight_dtype.quant_min_lower_bound = -127;
    config.weight_dtype.quant_max_upper_bound = 127;
  }
  return config;
}

using Types = std::map<Group, std::vector<DTypeConfig>>;

const std::vector<DTypeConfig>& dynamic_types() {
  static const std::vector<DTypeConfig> configs{types(c10::kQUInt8, c10::kFloat, c10::kQInt8, true),
                                                types(c10::kHalf, c10::kFloat, c10::kHalf, true)};
  return configs;
}

Types fbgemm_types() {
  const DTypeConfig weighted = types(c10::kQUInt8, c10::kQUInt8, c10::kQInt8);
  std::vector<DTypeConfig> linear{weighted};
  linear.insert(linear.end(), dynamic_types().begin(), dynamic_types().end());
  DTypeConfig bytes = without_weight(c10::kFloat, c10::kFloat), nibbles = bytes;
  bytes.weight_dtype = type_of(c10::kQUInt8);
  nibbles.weight_dtype = type_of(c10::kQUInt4x2);
  return {{Group::kWeighted, {weighted}},
          {Group::kLinear, linear},
          {Group::kPlain, {without_weight(c10::kQUInt8, c10::kQUInt8)}},
          {Group::kUnitRange, {fixed(weighted, 1.0 / 256, 0)}},
          {Group::kSymmetricUnitRange, {fixed(weighted, 2.0 / 256, 128)}},
          {Group::kRecurrent, dynamic_types()},
          {Group::kEmbedding, {bytes, nibbles}},
          {Group::kFloat, {}}};
}

Types native_types() {
  Types all = fbgemm_types();
  all[Group::kFloatWeights] = {types(c10::kQUInt8, c10::kQUInt8, c10::kFloat)};
  return all;
}

/// Signed codes are tried first.
Types qnnpack_types() {
  Types all = fbgemm_types();
  const DTypeConfig weighted = for_xnnpack(types(c10::kQInt8, c10::kQInt8, c10::kQInt8));
  const auto prepend = [&](Group group, const DTypeConfig& config) { all[group].insert(all[group].begin(), config); };
  prepend(Group::kWeighted, weighted);
  prepend(Group::kLinear, weighted);
  prepend(Group::kPlain, for_xnnpack(without_weight(c10::kQInt8, c10::kQInt8)));
  return all;
}

Types tensorrt_types() {
  const DTypeConfig weighted = types(c10::kQInt8, c10::kQInt8, c10::kQInt8);
  return {{Group::kWeighted, {weighted}},
          {Group::kLinear, {weighted}},
          {Group::kPlain, {without_weight(c10::kQInt8, c10::kQInt8)}}};
}

void add_rows(BackendConfig& backend, const std::vector<Row>& table, const Types& types_of_groups) {
  for (const auto& row : table) {
    const auto known = types_of_groups.find(row.group);
    if (known == types_of_groups.end()) continue;
    for (const auto& pattern : row.patterns) {
      BackendPatternConfig config(pattern);
      config.set_observation_type(row.observation_type)
          .set_dtype_configs(known->second)
          .set_input_type_to_index(row.indices);
      if (row.counts_tensors) config.set_num_tensor_args_to_observation_type({{0, kOwn}, {1, kShared}, {2, kOwn}});
      backend.set_backend_pattern_config(config);
    }
  }
}

BackendConfig with_rows(const std::string& name, const Types& types_of_groups) {
  BackendConfig backend(name);
  add_rows(backend, rows(), types_of_groups);
  return backend;
}

/// TensorRT has the activations that share their input's parameters, but none of its own.
bool is_for_tensorrt(const Row& row) { return row.group != Group::kPlain || row.observation_type == kShared; }

}  // namespace

BackendConfig get_native_backend_config() { return with_rows("native", native_types()); }
BackendConfig get_fbgemm_backend_config() { return with_rows("fbgemm", fbgemm_types()); }
BackendConfig get_x86_backend_config() { return with_rows("x86", fbgemm_types()); }
BackendConfig get_qnnpack_backend_config() { return with_rows("qnnpack", qnnpack_types()); }

BackendConfig get_onednn_backend_config() {
  BackendConfig backend = with_rows("onednn", fbgemm_types());
  add_rows(backend, onednn_rows(), fbgemm_types());
  return backend;
}

BackendConfig get_tensorrt_backend_config() {
  std::vector<Row> table = tensorrt_rows();
  std::copy_if(rows().begin(), rows().end(), std::back_inserter(table), is_for_tensorrt);
  BackendConfig backend("tensorrt");
  add_rows(backend, table, tensorrt_types());
  return backend;
}

}  // namespace tsquant::fx
