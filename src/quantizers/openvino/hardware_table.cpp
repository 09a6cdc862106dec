#include "quantizers/openvino/hardware_table.h"

#include <string>
#include <unordered_map>

#include "graph/op_table.h"

namespace tsquant::openvino {

namespace {

constexpr auto kSym = QuantizationScheme::kSymmetric;
constexpr auto kAsym = QuantizationScheme::kAsymmetric;

/// A family of configurations; it expands in the order mode, granularity, narrow range.
struct Space {
  int bits;
  std::vector<QuantizationScheme> modes;
  std::vector<bool> per_channel;
  std::vector<bool> narrow;
  c10::optional<bool> signedness = c10::nullopt;
};

Space activation_space(int bits) { return {bits, {kSym, kAsym}, {false}, {false}}; }
Space activations_by_channel(int bits) { return {bits, {kSym, kAsym}, {true, false}, {false}}; }
Space symmetric_activation_space(int bits) { return {bits, {kSym}, {false}, {false}}; }
Space symmetric_weights(int bits) { return {bits, {kSym}, {true, false}, {true}, true}; }
Space symmetric_weights_any_range(int bits) { return {bits, {kSym}, {true, false}, {true, false}, true}; }
Space asymmetric_weights(int bits) { return {bits, {kAsym}, {true, false}, {false}}; }
Space low_bit_weights(int bits) { return {bits, {kSym}, {true, false}, {false}}; }
Space low_bit_tensor(int bits) { return {bits, {kSym}, {false}, {false}}; }

using Spaces = std::vector<Space>;

struct Row {
  std::vector<std::string> ops;
  Spaces activations;
  Spaces weights;
  bool unified_scales = false;
};

Spaces operator+(Spaces a, const Spaces& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const std::vector<std::string>& arithmetic_operators() {
  static const std::vector<std::string> ops = {"ADD", "MULTIPLY", "MAXIMUM", "MINIMUM", "SUBTRACT"};
  return ops;
}

const std::vector<std::string>& comparison_ops() {
  static const std::vector<std::string> ops = {"LESS",       "LESS_EQUAL",  "GREATER",    "GREATER_EQUAL",
                                               "DIVIDE",     "EQUAL",       "NOT_EQUAL",  "FLOOR_MOD",
                                               "LOGICAL_OR", "LOGICAL_XOR", "LOGICAL_AND"};
  return ops;
}

/// Rows in NNCF's order: where two rows name the same metatype, the later one decides.
std::vector<Row> rows_of(TargetDevice device) {
  const bool npu = device == TargetDevice::kNpu;
  const bool gpu = device == TargetDevice::kGpu;
  const Spaces act = {activation_space(8), activation_space(16)};
  const Spaces act_ch = {activations_by_channel(8), activations_by_channel(16)};
  const Spaces act_sym = {symmetric_activation_space(8), symmetric_activation_space(16)};
  const Spaces weights = {symmetric_weights(8), asymmetric_weights(8), symmetric_weights(16), asymmetric_weights(16)};
  const Spaces rnn_weights = {symmetric_weights(8), symmetric_weights(16)};
  const Spaces table_weights = {symmetric_weights_any_range(8), asymmetric_weights(8), symmetric_weights_any_range(16),
                                asymmetric_weights(16)};
  const Spaces tensor4 = npu ? Spaces{low_bit_tensor(4)} : Spaces{};
  const Spaces conv_extra = npu ? Spaces{low_bit_weights(4), low_bit_tensor(4)} : Spaces{};
  const Spaces matmul_extra = npu ? Spaces{low_bit_weights(4), low_bit_weights(2)} : Spaces{};
  std::vector<Row> rows = {
      {{"CONVOLUTION"}, act + tensor4, weights + conv_extra},
      {{"DEPTHWISE_CONVOLUTION"}, act_ch, weights + matmul_extra},
      {{"MAT_MUL"}, act + tensor4, weights + matmul_extra},
      {arithmetic_operators(), act + tensor4, weights + tensor4, npu},
      {comparison_ops(), act, weights, npu},
      {{"LOGICAL_NOT"}, act, weights},
      {{"POWER", "AVG_POOL", "NORMALIZE_L2", "REDUCE_L2", "REDUCE_MEAN", "MVN", "REDUCE_SUM", "GROUP_NORMALIZATION"},
       act,
       {}},
      {{"INTERPOLATE"}, npu || gpu ? Spaces{} : Spaces{activation_space(8)}, {}},
      {{"CONCAT"}, {}, {}, true},
      {{"LSTM_SEQUENCE", "GRU_SEQUENCE"}, act, rnn_weights},
      {{"SCALED_DOT_PRODUCT_ATTENTION"}, act_sym, {}},
      {{"MAX_POOL", "REDUCE_MAX", "RESHAPE", "FLATTEN", "SQUEEZE", "UNSQUEEZE", "SPLIT", "VARIADIC_SPLIT", "CROP",
        "TRANSPOSE", "TILE", "STRIDED_SLICE", "SLICE", "SHUFFLE_CHANNELS", "BROADCAST", "PAD", "CONVERT_LIKE"},
       {},
       {}},
      {{"EMBEDDING"}, {}, table_weights},
      {{"EMBEDDING_BAG"}, {}, npu ? table_weights : Spaces{}},
  };
  return rows;
}

QConfigList expand(const Spaces& spaces) {
  QConfigList list;
  for (const Space& space : spaces) {
    for (const auto mode : space.modes) {
      for (const bool per_channel : space.per_channel) {
        for (const bool narrow : space.narrow) {
          const QConfig config{space.bits, mode, space.signedness, per_channel, narrow};
          if (!contains(list, config)) list.push_back(config);
        }
      }
    }
  }
  return list;
}

}  // namespace

std::vector<OpPlan> make_hardware_table(TargetDevice device, bool eight_bit) {
  if (eight_bit && (device == TargetDevice::kGpu || device == TargetDevice::kNpu)) device = TargetDevice::kCpu;
  std::unordered_map<std::string, std::vector<int>> metatypes_of;
  const auto& table = op_table();
  for (size_t i = 0; i < table.size(); ++i) {
    for (const auto& op : table[i].hw_ops) metatypes_of[op].push_back(static_cast<int>(i));
  }
  std::vector<OpPlan> plans(table.size());
  for (const Row& row : rows_of(device)) {
    for (const auto& op : row.ops) {
      for (int metatype : metatypes_of[op]) {
        OpPlan& plan = plans[metatype];
        plan.listed = true;
        plan.activations = expand(row.activations);
        plan.weights = expand(row.weights);
        plan.unified_scales = plan.unified_scales || row.unified_scales;
      }
    }
  }
  // A device that knows the operator's name but does not list it runs it in float.
  for (size_t i = 0; i < table.size(); ++i) {
    OpPlan& plan = plans[i];
    if (plan.listed) {
      plan.trait = plan.activations.empty() ? table[i].default_trait : QuantizationTrait::kInputsQuantizable;
    } else {
      plan.trait = table[i].hw_ops.empty() ? table[i].default_trait : QuantizationTrait::kNonQuantizable;
    }
  }
  return plans;
}

}  // namespace tsquant::openvino
