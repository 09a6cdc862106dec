#include <ATen/ATen.h>

#include "graph/params.h"
#include "lowering/engines/row_builders.h"
#include "lowering/engines/weighted_op.h"

// Our own kernels (libtsquant_ops.so). They take every layout, rank and scale and give the same codes on every
// processor, whatever quantized engine LibTorch is set to.
namespace tsquant {

using torch::jit::Node;

namespace {

/// (a, b, relu, scale, zero_point), or with other bounds (a, b, low, high, scale, zero_point)
Values binary(LoweringContext& context, Node* node, Values codes, const FusedOutput& output) {
  if (output.clamps() && !output.is_relu()) {
    const auto [low, high] = code_bounds(context, output);
    codes.insert(codes.end(), {context.constant(node, low), context.constant(node, high)});
  } else {
    codes.push_back(context.constant(node, output.is_relu()));
  }
  append_params(context, node, output.params, codes);
  return codes;
}

/// (codes, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, scale, zero_point)
Values avg_pool(LoweringContext& context, Node* node, Values codes, const FusedOutput& output) {
  codes.insert(codes.end(), node->inputs().begin() + 1, node->inputs().end());
  if (codes.size() == 6) codes.push_back(context.constant(node, c10::IValue()));  // avg_pool1d has no divisor_override
  append_params(context, node, output.params, codes);
  return codes;
}

/// (codes, output_size, scale, zero_point)
Values adaptive_avg_pool(LoweringContext& context, Node* node, Values codes, const FusedOutput& output) {
  codes.push_back(node->input(1));
  if (output.quantized()) append_params(context, node, output.params, codes);
  return codes;
}

/// (codes, dim, keepdim, scale, zero_point)
Values mean(LoweringContext& context, Node* node, Values codes, const FusedOutput& output) {
  codes.insert(codes.end(), {node->input(1), node->input(2)});
  if (output.quantized()) append_params(context, node, output.params, codes);
  return codes;
}

/// (a, b, scale, zero_point)
Values product(LoweringContext& context, Node* node, Values codes, const FusedOutput& output) {
  if (output.quantized()) append_params(context, node, output.params, codes);
  return codes;
}

/// (codes, table, scale, zero_point): the codes between the codes of two bounds.
Values clamp_table(LoweringContext& context, Node* node, Values codes, const FusedOutput& output) {
  const at::Tensor all = at::arange(256, at::kByte);
  at::Tensor real =
      at::_make_per_tensor_quantized_tensor(all, output.params.scale, output.params.zero_point).dequantize();
  if (output.low) real = real.clamp_min(*output.low);
  if (output.high) real = real.clamp_max(*output.high);
  const at::Tensor table =
      at::quantize_per_tensor(real, output.params.scale, output.params.zero_point, at::kQUInt8).int_repr();
  codes.push_back(context.constant(node, table));
  append_params(context, node, output.params, codes);
  return codes;
}

/// The activations that the kernels know.
std::vector<std::string> activations() {
  const c10::IValue names = call_operator("tsquant::activations", {});
  std::vector<std::string> result;
  for (const c10::IValue& name : names.toListRef()) result.push_back(name.toStringRef());
  return result;
}

c10::IValue bound(const c10::optional<double>& value) { return value ? c10::IValue(*value) : c10::IValue(); }

at::Tensor scales_of(const WeightedOp& op) {
  if (op.weight.qscheme() == at::kPerTensorAffine) return at::full({1}, op.weight.q_scale(), at::kFloat);
  const at::Tensor scales = op.weight.q_per_channel_scales().to(at::kFloat);
  // The channels of a transposed convolution's weight repeat in every group.
  return op.geometry.transposed && op.geometry.groups > 1 ? scales.repeat({op.geometry.groups}) : scales;
}

PackedOp pack_linear(const WeightedOp& op, const FusedOutput& output) {
  return {call_operator("tsquant::linear_pack", {op.weight.int_repr(), scales_of(op), optional_tensor(op.bias),
                                                 bound(output.low), bound(output.high)})};
}

PackedOp pack_convolution(const WeightedOp& op, const FusedOutput& output) {
  const KernelGeometry& g = op.geometry;
  return {call_operator("tsquant::conv_pack",
                        {op.weight.int_repr(), scales_of(op), optional_tensor(op.bias), g.stride, g.padding, g.dilation,
                         g.output_padding, g.groups, g.transposed, bound(output.low), bound(output.high)})};
}

EngineRow convolution(const char* op) {
  EngineRow row;
  row.op = op;
  row.kernel = "tsquant::conv";
  row.float_kernel = "tsquant::conv_float";
  row.add_kernel = "tsquant::conv_add";
  row.pack = pack_convolution;
  row.clamps = true;
  row.activations = activations();
  return row;
}

}  // namespace

Engine make_tsquant_engine() {
  Engine engine;
  engine.name = "tsquant";
  engine.packs_for_selection = false;
  engine.reads_tensor_scales = true;
  for (const char* op : {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}) {
    engine.rows.push_back(convolution(op));
  }
  EngineRow linear;
  linear.op = "linear";
  linear.kernel = "tsquant::linear";
  linear.float_kernel = "tsquant::linear_float";
  linear.pack = pack_linear;
  linear.clamps = true;
  linear.activations = activations();
  engine.rows.push_back(linear);
  engine.rows.push_back(function("add", "tsquant::add", binary));
  engine.rows.back().clamps = true;
  engine.rows.push_back(function("mul", "tsquant::mul", binary));
  engine.rows.back().clamps = true;
  engine.rows.push_back(function("cat", "tsquant::cat", concatenation));
  for (const char* op : {"max_pool1d", "max_pool2d", "max_pool3d"}) {
    engine.rows.push_back(function(op, "tsquant::max_pool", same_arguments, ResultScale::kInput));
  }
  for (const char* op : {"avg_pool1d", "avg_pool2d", "avg_pool3d"}) {
    engine.rows.push_back(function(op, "tsquant::avg_pool", avg_pool));
  }
  for (const char* op : {"adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"}) {
    engine.rows.push_back(function(op, "tsquant::adaptive_avg_pool", adaptive_avg_pool));
    engine.rows.back().float_kernel = "tsquant::adaptive_avg_pool_float";
  }
  engine.rows.push_back(function("mean", "tsquant::mean", mean));
  engine.rows.back().float_kernel = "tsquant::mean_float";
  for (const char* op : {"matmul", "bmm", "mm"}) {
    engine.rows.push_back(function(op, "tsquant::matmul", product));
    engine.rows.back().float_kernel = "tsquant::matmul_float";
    engine.rows.back().min_rank = 2;
  }
  engine.rows.push_back(function("attention", "tsquant::attention", nullptr));  // see lower_attention
  engine.rows.back().float_kernel = "tsquant::attention_float";
  engine.rows.push_back(function("clamp", "tsquant::lookup", clamp_table));
  // Any element-wise function between two quantizers becomes a table of 256 codes, see lower_quantizers.
  engine.rows.push_back(function("elementwise", "tsquant::lookup", nullptr));
  engine.rows.push_back(function("quantize_per_tensor", "tsquant::quantize", nullptr));
  // Float convolutions of one pixel, see lower_pixel_convolutions.
  engine.rows.push_back(function("pixel_conv2d", "tsquant::pixel_conv", nullptr));
  engine.rows.push_back(function("dequantize", "tsquant::dequantize", nullptr));
  engine.rows.push_back(function("lstm", "tsquant::lstm", nullptr));  // see lower_recurrent
  engine.rows.push_back(function("gru", "tsquant::gru", nullptr));
  engine.rows.push_back(function("lstm_cell", "tsquant::lstm_cell", nullptr));
  engine.rows.push_back(function("gru_cell", "tsquant::gru_cell", nullptr));
  // Weights that are stored in float16, see lower_half_weights.
  engine.rows.push_back(function("half_weight", "tsquant::half_floats", nullptr));
  return engine;
}

}  // namespace tsquant
