#include "graph/op_table.h"

#include <unordered_map>

#include "graph/smooth_quant_function.h"

namespace tsquant {

namespace {

constexpr auto kNone = QuantizationTrait::kNonQuantizable;
constexpr auto kAgnostic = QuantizationTrait::kQuantizationAgnostic;
constexpr auto kInputs = QuantizationTrait::kInputsQuantizable;
constexpr auto kConcat = QuantizationTrait::kConcat;
constexpr auto kWeights = QuantizationTrait::kOutputQuantizationAsWeights;
constexpr int64_t kNoAxis = -100;

// Metatype, function names, rows of the hardware table, default trait, weight ports, bias port, output channel axis,
// ignored ports, target ports. Source: nncf/torch/graph/operator_metatypes.py and
// nncf/torch/quantization/default_quantization.py. Ports are those of the Python functions.
// Rows without function names exist in NNCF but are not reachable by name: the base of the depthwise rows,
// max_pool1d (not registered there), and the aten embeddings, which the graph view selects when the weight is the
// first argument and constant.
const std::vector<OpInfo>& rows() {
  static const std::vector<OpInfo> table = {
      {"PTDepthwiseConvOperatorSubtype", {}, {}, kNone},
      {"PTInputNoopMetatype", {"input_noop", "nncf_model_input"}, {}, kNone},
      {"PTOutputNoopMetatype", {"nncf_model_output", "output_noop"}, {}, kNone},
      {"PTConstNoopMetatype", {"const_noop", "nncf_model_const"}, {}, kNone},
      {"PTNoopMetatype", {"clone", "contiguous", "detach", "detach_", "noop", "to"}, {}, kAgnostic},
      {"PTDepthwiseConv1dSubtype", {"conv1d"}, {}, kNone, {1}, 2, 1},
      {"PTConv1dMetatype", {"conv1d"}, {"CONVOLUTION"}, kNone, {1}, 2, 1},
      {"PTDepthwiseConv2dSubtype", {"conv2d"}, {"DEPTHWISE_CONVOLUTION"}, kInputs, {1}, 2, 1},
      {"PTConv2dMetatype", {"conv2d"}, {"CONVOLUTION"}, kInputs, {1}, 2, 1},
      {"PTDepthwiseConv3dSubtype", {"conv3d"}, {"DEPTHWISE_CONVOLUTION"}, kInputs, {1}, 2, 1},
      {"PTConv3dMetatype", {"conv3d"}, {"CONVOLUTION"}, kInputs, {1}, 2, 1},
      {"PTConvTranspose1dMetatype", {"conv_transpose1d"}, {"CONVOLUTION"}, kNone, {1}, 2, 1},
      {"PTConvTranspose2dMetatype", {"conv_transpose2d"}, {"CONVOLUTION"}, kInputs, {1}, 2, 1},
      {"PTConvTranspose3dMetatype", {"conv_transpose3d"}, {"CONVOLUTION"}, kInputs, {1}, 2, 1},
      {"PTDeformConv2dMetatype", {"deform_conv2d"}, {}, kNone, {2}},
      {"PTLinearMetatype", {"linear"}, {"MAT_MUL"}, kInputs, {1}, 2, -1},
      {"PTHardTanhMetatype", {"hardtanh"}, {}, kNone},
      {"PTHardSwishMetatype", {"hardswish", "hardswish_"}, {}, kNone},
      {"PTHardSigmoidMetatype", {"hardsigmoid"}, {}, kNone},
      {"PTTanhMetatype", {"tanh"}, {}, kNone},
      {"PTELUMetatype", {"elu", "elu_"}, {}, kNone},
      {"PTPRELUMetatype", {"prelu"}, {}, kNone},
      {"PTLeakyRELUMetatype", {"leaky_relu"}, {}, kNone},
      {"PTLayerNormMetatype", {"layer_norm"}, {"MVN"}, kInputs, {2}},
      {"PTGroupNormMetatype", {"group_norm"}, {"MVN"}, kNone, {2}},
      {"PTGELUMetatype", {"gelu"}, {"GELU"}, kNone},
      {"PTSILUMetatype", {"silu", "silu_"}, {}, kNone},
      {"PTSELUMetatype", {"selu"}, {}, kNone},
      {"PTSigmoidMetatype", {"sigmoid"}, {}, kNone},
      {"PTAddMetatype", {"__add__", "__iadd__", "__radd__", "add", "add_"}, {"ADD"}, kInputs},
      {"PTSubMetatype", {"__isub__", "__rsub__", "__sub__", "sub", "sub_"}, {"SUBTRACT"}, kNone},
      {"PTMulMetatype", {"__imul__", "__mul__", "__rmul__", "mul", "mul_"}, {"MULTIPLY"}, kInputs},
      {"PTDivMetatype",
       {"__div__", "__idiv__", "__itruediv__", "__rdiv__", "__rtruediv__", "__truediv__", "div", "div_"},
       {"DIVIDE"},
       kInputs},
      {"PTFloorDivMetatype", {"__floordiv__", "__ifloordiv__", "__rfloordiv__", "floor_divide"}, {}, kNone},
      {"PTExpMetatype", {"exp"}, {}, kNone},
      {"PTLogMetatype", {"log"}, {}, kNone},
      {"PTAbsMetatype", {"__abs__", "abs"}, {}, kNone},
      {"PTErfMetatype", {"erf"}, {}, kNone},
      {"PTMatMulMetatype", {"__matmul__", "__rmatmul__", "bmm", "matmul", "mm"}, {"MAT_MUL"}, kInputs, {0, 1}},
      {"PTAddmmMetatype", {"addmm", "baddbmm"}, {"MAT_MUL"}, kNone, {1, 2}, -1, kNoAxis, {0}},
      {"PTMeanMetatype", {"mean"}, {"REDUCE_MEAN"}, kInputs},
      {"PTMedianMetatype", {"median"}, {}, kNone},
      {"PTRoundMetatype", {"round"}, {}, kInputs},
      {"PTDropoutMetatype", {"dropout", "dropout_"}, {}, kAgnostic},
      {"PTThresholdMetatype", {"threshold"}, {}, kAgnostic},
      {"PTBatchNormMetatype",
       {"_native_batch_norm_legit_no_training", "batch_norm", "cudnn_batch_norm"},
       {},
       kInputs,
       {1},
       2},
      {"PTAvgPool1dMetatype", {"adaptive_avg_pool1d", "avg_pool1d"}, {"AVG_POOL"}, kNone},
      {"PTAvgPool2dMetatype", {"adaptive_avg_pool2d", "avg_pool2d"}, {"AVG_POOL"}, kInputs},
      {"PTAvgPool3dMetatype", {"adaptive_avg_pool3d", "avg_pool3d"}, {"AVG_POOL"}, kInputs},
      {"PTAdaptiveMaxPool1dMetatype", {"adaptive_max_pool1d"}, {}, kNone},
      {"PTAdaptiveMaxPool2dMetatype", {"adaptive_max_pool2d"}, {}, kNone},
      {"PTAdaptiveMaxPool3dMetatype", {"adaptive_max_pool3d"}, {}, kNone},
      {"PTMaxPool1dMetatype", {}, {"MAX_POOL"}, kAgnostic},
      {"PTMaxPool2dMetatype", {"max_pool2d"}, {"MAX_POOL"}, kAgnostic},
      {"PTMaxPool3dMetatype", {"max_pool3d"}, {"MAX_POOL"}, kAgnostic},
      {"PTMaxUnpool1dMetatype", {"max_unpool1d"}, {}, kAgnostic},
      {"PTMaxUnpool2dMetatype", {"max_unpool2d"}, {}, kAgnostic},
      {"PTMaxUnpool3dMetatype", {"max_unpool3d"}, {}, kAgnostic},
      {"PTPadMetatype", {"pad"}, {}, kAgnostic},
      {"PTCatMetatype", {"cat", "concat", "stack"}, {"CONCAT"}, kConcat},
      {"PTRELUMetatype", {"relu", "relu_"}, {}, kNone},
      {"PTRELU6Metatype", {"relu6"}, {}, kNone},
      {"PTMaxMetatype", {"max"}, {"MAXIMUM", "REDUCE_MAX"}, kAgnostic},
      {"PTMinMetatype", {"min"}, {"MINIMUM"}, kAgnostic},
      {"PTTransposeMetatype", {"permute", "transpose", "transpose_"}, {"TRANSPOSE"}, kAgnostic},
      {"PTGatherMetatype", {"__getitem__", "gather", "index_select", "select", "slice", "where"}, {}, kAgnostic},
      {"PTScatterMetatype", {"masked_fill", "masked_fill_", "scatter"}, {}, kAgnostic},
      {"PTReshapeMetatype",
       {"flatten", "reshape", "unflatten", "unsqueeze", "view"},
       {"RESHAPE", "UNSQUEEZE", "FLATTEN"},
       kAgnostic},
      {"PTSqueezeMetatype", {"squeeze"}, {"SQUEEZE"}, kAgnostic},
      {"PTSplitMetatype", {"chunk", "split", "split_with_sizes", "unbind"}, {"SPLIT", "CHUNK"}, kAgnostic},
      {"PTExpandMetatype", {"expand"}, {}, kAgnostic},
      {"PTExpandAsMetatype", {"expand_as"}, {}, kNone},
      {"PTEmbeddingMetatype", {"embedding"}, {"EMBEDDING"}, kWeights, {1}},
      {"PTAtenEmbeddingMetatype", {}, {}, kNone, {0}},
      {"PTEmbeddingBagMetatype", {"embedding_bag"}, {"EMBEDDING_BAG"}, kWeights, {1}},
      {"PTAtenEmbeddingBagMetatype", {}, {}, kNone, {0}},
      {"PTSoftmaxMetatype", {"softmax"}, {}, kNone},
      {"PTLessMetatype", {"__lt__"}, {"LESS"}, kNone},
      {"PTLessEqualMetatype", {"__le__"}, {"LESS_EQUAL"}, kNone},
      {"PTGreaterMetatype", {"__gt__"}, {"GREATER"}, kNone},
      {"PTGreaterEqualMetatype", {"__ge__"}, {"GREATER_EQUAL"}, kNone},
      {"PTModMetatype", {"__mod__"}, {"FLOOR_MOD"}, kNone},
      {"PTEqualsMetatype", {"__eq__"}, {"EQUAL"}, kNone},
      {"PTNotEqualMetatype", {"__ne__"}, {"NOT_EQUAL"}, kNone},
      {"PTLogicalOrMetatype", {"__ior__", "__or__", "__ror__"}, {"LOGICAL_OR"}, kNone},
      {"PTLogicalXorMetatype", {"__ixor__", "__rxor__", "__xor__"}, {"LOGICAL_XOR"}, kNone},
      {"PTLogicalAndMetatype", {"__and__", "__iand__", "__rand__"}, {"LOGICAL_AND"}, kNone},
      {"PTLogicalNotMetatype", {"__invert__", "logical_not_"}, {"LOGICAL_NOT"}, kNone},
      {"PTNegativeMetatype", {"__neg__", "neg"}, {}, kNone},
      {"PTPowerMetatype", {"__ipow__", "__pow__", "__rpow__", "pow"}, {"POWER"}, kNone},
      {"PTSqrtMetatype", {"sqrt", "sqrt_"}, {"POWER"}, kNone},
      {"PTInterpolateMetatype",
       {"interpolate", "upsample_nearest2d", "upsample_nearest_exact2d"},
       {"INTERPOLATE"},
       kNone},
      {"PTRepeatMetatype", {"repeat_interleave"}, {"TILE"}, kAgnostic},
      {"PTPixelShuffleMetatype", {"pixel_shuffle"}, {}, kInputs},
      {"PTSumMetatype", {"sum"}, {"REDUCE_SUM"}, kNone},
      {"PTReduceL2", {"normalize"}, {"REDUCE_L2"}, kNone},
      {"PTScaledDotProductAttentionMetatype",
       {"scaled_dot_product_attention"},
       {"SCALED_DOT_PRODUCT_ATTENTION"},
       kNone,
       {},
       -1,
       kNoAxis,
       {},
       {0, 1}},
      {"PTCosMetatype", {"cos"}, {}, kNone},
      {"PTSinMetatype", {"sin"}, {}, kNone},
      {"PTTopKMetatype", {"topk"}, {}, kNone},
      // Not in NNCF, where it is a module of unknown type: the multiply that SmoothQuant inserts.
      {"SmoothQuantMultiply", {kSmoothQuantFunction}, {}, kNone},
      {"UnknownMetatype", {}, {}, kNone},
  };
  return table;
}

struct Index {
  std::unordered_map<std::string, const OpInfo*> by_function, depthwise, by_metatype;

  Index() {
    for (const OpInfo& row : rows()) {
      const bool is_depthwise = row.metatype.rfind("PTDepthwise", 0) == 0;
      for (const auto& function : row.functions) (is_depthwise ? depthwise : by_function).emplace(function, &row);
      by_metatype.emplace(row.metatype, &row);
    }
  }
};

const Index& index() {
  static const Index built;
  return built;
}

const OpInfo* look_up(const std::unordered_map<std::string, const OpInfo*>& map, const std::string& key) {
  const auto place = map.find(key);
  return place == map.end() ? nullptr : place->second;
}

}  // namespace

const std::vector<OpInfo>& op_table() { return rows(); }

const OpInfo& find_metatype(const std::string& metatype) {
  const OpInfo* row = look_up(index().by_metatype, metatype);
  return row ? *row : rows().back();
}

const OpInfo& find_op(const std::string& function, bool depthwise) {
  const OpInfo* row = depthwise ? look_up(index().depthwise, function) : nullptr;
  if (!row) row = look_up(index().by_function, function);
  return row ? *row : rows().back();
}

c10::optional<ProductSide> product_side(const OpInfo& op, int64_t port) {
  if (op.metatype == "PTLinearMetatype") return ProductSide{false, 0};
  if (op.metatype == "PTMatMulMetatype") return ProductSide{port == 0, 1 - port};
  if (op.metatype == "PTAddmmMetatype") return ProductSide{port == 1, 3 - port};  // after the summand
  return c10::nullopt;
}

}  // namespace tsquant
