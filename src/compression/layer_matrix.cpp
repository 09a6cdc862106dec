#include "compression/layer_matrix.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "numerics/groups.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Whether the inputs are the rows of the weight.
bool inputs_come_first(const at::Tensor& weight, const QuantizationSpec& spec, const std::string& algorithm) {
  if (weight.dim() != 2 || !weight.is_floating_point()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a weight of type {} and shape [{}]", c10::toString(weight.scalar_type()),
                            fmt::join(weight.sizes(), ", ")),
                algorithm, "give the matrix of a linear layer in floating point");
  }
  if (spec.group_size > 0) return Groups(weight, spec.group_size, spec.group_axis).axis == 0;
  if (spec.per_channel && spec.ch_axis <= 1) return spec.ch_axis == 1;
  throw Error(ErrorCode::kInvalidArgument, "the weight has neither groups nor one scale per output channel", algorithm,
              "set group_size, or per_channel with ch_axis 0 or 1");
}

}  // namespace

LayerMatrix::LayerMatrix(const at::Tensor& weight, const QuantizationSpec& spec, const std::string& algorithm)
    : spec_(spec), given_(spec), algorithm_(algorithm) {
  spec_.formula = QParamsFormula::kNncfCompression;
  check_spec(spec_, PointKind::kWeight, algorithm);
  transposed_ = inputs_come_first(weight, spec, algorithm);
  weight_ = from_given(weight.detach().to(at::kFloat)).contiguous();
  if (weight_.numel() == 0 || !at::isfinite(weight_).all().item<bool>()) {
    throw Error(ErrorCode::kCalibration, "a weight is empty or has NaN or infinite values", algorithm);
  }
  spec_.per_channel = false;
  if (spec_.group_size == 0) spec_.group_size = inputs();
  spec_.group_axis = 1;
}

void LayerMatrix::check_channels(int64_t channels) const {
  if (channels == inputs()) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("data of {} channels for a weight with {} inputs", channels, inputs()), algorithm_,
              "collect them at the input of this layer");
}

CompressedWeight LayerMatrix::as_given(const CompressedWeight& compressed) const {
  CompressedWeight result = compressed;
  QParams& q = result.qparams;
  const auto oriented = [&](const at::Tensor& x) { return transposed_ ? x.t().contiguous() : x; };
  result.codes = oriented(result.codes);
  for (auto* x : {&q.scale, &q.zero_point, &q.range.min, &q.range.max}) {
    *x = given_.group_size > 0 ? oriented(*x) : x->flatten();
  }
  q.group_size = given_.group_size;
  q.group_axis = given_.group_axis;
  q.per_channel = given_.group_size == 0;
  q.axis = given_.ch_axis;
  return result;
}

}  // namespace tsquant
