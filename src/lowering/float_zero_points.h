#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <vector>

#include "lowering/reference_nodes.h"
#include "tsquant/model.h"

namespace tsquant {

/// A table of unsigned codes with floating-point zero points, and the operators that turn it into floats:
///
/// %codes = prim::GetAttr[name="weight"](%embedding)             (uint8, under the weight's state-dict name)
/// %levels = aten::to(%codes, float32, ...)
/// %centred = aten::sub(%levels, %zero_points, 1)                (float32 [rows, 1] for codes by row)
/// %weight = aten::mul(%centred, %scales)
///
/// Plain operators, which round as LibTorch's tensors of the scheme per_channel_affine_float_qparams do. Such tensors
/// themselves cannot be copied, so no file holds one.
struct FloatZeroTable {
  torch::jit::Value* codes = nullptr;
  torch::jit::Node* last = nullptr;  ///< its result is the float table
  at::Tensor tensor;                 ///< the codes
  at::Tensor scales, zero_points;    ///< float32, one per slice along the axis, in a shape that broadcasts over it
  int64_t axis = 0;

  at::Tensor values() const { return (tensor.to(at::kFloat) - zero_points) * scales; }
};

/// Behind `levels`, the aten::to of a table of codes: subtracts and multiplies. All uses read the result instead.
void insert_float_zero_points(torch::jit::Node* levels, const QParams& q, int64_t rank);

/// The arguments of that aten::to behind the codes.
std::vector<torch::jit::Value*> float_cast_arguments(torch::jit::Graph& graph);

/// What the operators of a table say.
AffineNode affine_of(const FloatZeroTable& table);

/// The tables of a graph, in execution order.
std::vector<FloatZeroTable> float_zero_tables(const Model& model);

}  // namespace tsquant
