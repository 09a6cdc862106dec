#include <ATen/ATen.h>
#include <fmt/format.h>

#include "graph/params.h"
#include "lowering/engines/row_builders.h"
#include "lowering/engines/weighted_op.h"

// LibTorch's quantized operators (1.13). Their files run in plain LibTorch under the engine they were made for. The
// limits are those of aten/src/ATen/native/quantized and of the libraries below it.
namespace tsquant {

using torch::jit::Node;

namespace {

/// (operands, scale, zero_point)
Values rescaled(LoweringContext& context, Node* node, Values codes, const FusedOutput& output) {
  append_params(context, node, output.params, codes);
  return codes;
}

/// (codes, negative_slope, inplace, scale, zero_point)
Values leaky_relu(LoweringContext& context, Node* node, Values codes, const FusedOutput& output) {
  codes.insert(codes.end(), {node->input(1), context.constant(node, false)});
  append_params(context, node, output.params, codes);
  return codes;
}

/// (codes, scale, zero_point, alpha, scale, input_scale)
Values elu(LoweringContext& context, Node* node, Values codes, const FusedOutput& output) {
  append_params(context, node, output.params, codes);
  codes.insert(codes.end(), {node->input(1), node->input(2), node->input(3)});
  return codes;
}

/// (codes, low, high): the kernel wants both bounds; the missing one is the end of the codes' range.
Values clamp_codes(LoweringContext& context, Node* node, Values codes, const FusedOutput& output) {
  const Engine& engine = context.engine();
  const auto real = [&](int64_t code) {
    return static_cast<double>(code - output.params.zero_point) * output.params.scale;
  };
  codes.push_back(context.constant(node, output.low.value_or(real(engine.quant_min()))));
  codes.push_back(context.constant(node, output.high.value_or(real(engine.quant_max()))));
  return codes;
}

PackedOp prepack_linear(const WeightedOp& op, const FusedOutput&) {
  return {call_operator("quantized::linear_prepack", {op.weight.contiguous(), optional_tensor(op.bias)})};
}

PackedOp prepack_convolution(const WeightedOp& op, const FusedOutput&) {
  const KernelGeometry& g = op.geometry;
  const std::string name = fmt::format("quantized::conv{}{}d_prepack", g.transposed ? "_transpose" : "", g.spatial());
  const c10::IValue weight = op.weight.contiguous(), bias = optional_tensor(op.bias);
  if (g.transposed) {
    return {call_operator(name, {weight, bias, g.stride, g.padding, g.output_padding, g.dilation, g.groups})};
  }
  return {call_operator(name, {weight, bias, g.stride, g.padding, g.dilation, g.groups})};
}

EngineRow prepacked_convolution(const char* op, const char* kernel, const char* relu_kernel, int64_t dims) {
  EngineRow row;
  row.op = op;
  row.kernel = kernel;
  row.relu_kernel = relu_kernel;
  row.pack = prepack_convolution;
  row.min_rank = row.max_rank = dims + 2;  // the kernels want a batch dimension
  return row;
}

EngineRow fixed(const char* op, const char* kernel, EngineRow::Arguments arguments, CodeParams params) {
  EngineRow row = function(op, kernel, arguments, ResultScale::kFixed);
  row.fixed = params;
  return row;
}

EngineRow pooling(const char* op, const char* kernel, int64_t min_rank, int64_t max_rank) {
  EngineRow row = function(op, kernel, same_arguments, ResultScale::kInput);
  row.divisor = false;
  row.min_rank = min_rank;
  row.max_rank = max_rank;
  return row;
}

/// What all of LibTorch's engines share.
Engine common(const char* name) {
  Engine engine;
  engine.name = name;
  engine.rows = {
      prepacked_convolution("conv1d", "quantized::conv1d", "quantized::conv1d_relu", 1),
      prepacked_convolution("conv2d", "quantized::conv2d", "quantized::conv2d_relu", 2),
      prepacked_convolution("conv3d", "quantized::conv3d", "quantized::conv3d_relu", 3),
      prepacked_convolution("conv_transpose1d", "quantized::conv_transpose1d", "", 1),
      prepacked_convolution("conv_transpose2d", "quantized::conv_transpose2d", "", 2),
      prepacked_convolution("conv_transpose3d", "quantized::conv_transpose3d", "", 3),
  };
  EngineRow linear;
  linear.op = "linear";
  linear.kernel = "quantized::linear";
  linear.relu_kernel = "quantized::linear_relu";
  linear.pack = prepack_linear;
  linear.min_rank = 2;
  EngineRow add = function("add", "quantized::add", rescaled), mul = function("mul", "quantized::mul", rescaled);
  add.relu_kernel = "quantized::add_relu";
  mul.relu_kernel = "quantized::mul_relu";
  engine.rows.insert(
      engine.rows.end(),
      {linear, add, mul, function("cat", "quantized::cat", concatenation),
       pooling("max_pool1d", "aten::max_pool1d", 2, 3), pooling("max_pool2d", "aten::max_pool2d", 3, 4),
       pooling("avg_pool2d", "aten::avg_pool2d", 3, 4), pooling("avg_pool3d", "aten::avg_pool3d", 4, 5),
       function("adaptive_avg_pool2d", "aten::adaptive_avg_pool2d", same_arguments, ResultScale::kInput),
       function("adaptive_avg_pool3d", "aten::adaptive_avg_pool3d", same_arguments, ResultScale::kInput),
       function("mean", "aten::mean", same_arguments, ResultScale::kInput),
       function("clamp", "quantized::clamp", clamp_codes), function("hardswish", "quantized::hardswish", rescaled),
       function("sigmoid", "quantized::sigmoid", rescaled), function("leaky_relu", "quantized::leaky_relu", leaky_relu),
       function("elu", "quantized::elu", elu),
       fixed("hardsigmoid", "aten::hardsigmoid", same_arguments, {1.0 / 256, 0}),
       fixed("tanh", "aten::tanh", same_arguments, {2.0 / 256, 128})});
  return engine;
}

EngineRow& row_of(Engine& engine, const std::string& op) { return const_cast<EngineRow&>(*engine.find(op)); }

void remove_rows(Engine& engine, const std::vector<std::string>& ops) {
  for (const auto& op : ops) engine.rows.erase(engine.rows.begin() + (engine.find(op) - engine.rows.data()));
}

}  // namespace

Engine make_onednn_engine() { return common("onednn"); }

Engine make_fbgemm_engine() { return common("fbgemm"); }

/// Signed activations take LibTorch's path to XNNPACK, which is exact and up to three times as fast as QNNPACK's own
/// kernels for unsigned ones.
Engine make_qnnpack_engine() {
  Engine engine = common("qnnpack");
  engine.activations = c10::kQInt8;
  remove_rows(engine, {"conv3d", "conv_transpose3d"});
  EngineRow& linear = row_of(engine, "linear");
  linear.unsigned_only = true;
  for (const char* op : {"max_pool2d", "avg_pool2d"}) {
    EngineRow& pool = row_of(engine, op);
    pool.min_window = 2;
    pool.count_without_padding = false;
  }
  // XNNPACK's addition.
  EngineRow& add = row_of(engine, "add");
  add.min_scale_ratio = 0x1p-10;
  add.max_scale_ratio = 0x1p+8;
  EngineRow& mul = row_of(engine, "mul");
  mul.min_scale_ratio = 0x1p-10;
  mul.max_scale_ratio = 0x1p+8;
  row_of(engine, "clamp").dense_operand = true;
  row_of(engine, "tanh").fixed = {2.0 / 256, 0};
  row_of(engine, "hardsigmoid").fixed = {1.0 / 256, -128};
  return engine;
}

}  // namespace tsquant
