#include "compression/round_to_nearest.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>

#include "numerics/groups.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

Range channel_range(const at::Tensor& weight, int64_t axis) {
  if (axis >= weight.dim()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("ch_axis is {}, but the weight has {} dimensions", axis, weight.dim()), "",
                "give an existing axis");
  }
  if (axis == 0 && weight.is_contiguous() && weight.numel() > 0) return row_range(weight, weight.size(0));
  std::vector<int64_t> others;
  for (int64_t i = 0; i < weight.dim(); ++i) {
    if (i != axis) others.push_back(i);
  }
  if (others.empty()) return {weight, weight};
  return {at::amin(weight, others), at::amax(weight, others)};
}

Range range_of(const at::Tensor& weight, const QuantizationSpec& spec) {
  if (spec.group_size > 0) return group_range(weight, spec.group_size, spec.group_axis);
  if (spec.per_channel) return channel_range(weight, spec.ch_axis);
  if (weight.is_contiguous() && weight.numel() > 0) return row_range(weight, 1);
  return {weight.min().reshape({1}), weight.max().reshape({1})};
}

QuantizationSpec checked_spec(const QuantizationSpec& spec) {
  auto exact = spec;
  exact.formula = QParamsFormula::kNncfCompression;
  check_spec(exact, PointKind::kWeight, "round_to_nearest");
  return exact;
}

/// @param spec a checked one
CompressedWeight codes_in(const at::Tensor& values, const Range& range, const QuantizationSpec& spec,
                          const c10::optional<float>& tolerated) {
  CompressedWeight result;
  result.qparams = choose_qparams(range, spec, PointKind::kWeight, tolerated);
  if (format_info(spec.format).scale != ScaleFormat::kE4M3) {
    result.codes = quantize(values, result.qparams);
    return result;
  }
  // NNCF takes the codes from the scales before these are rounded to E4M3.
  auto exact = spec;
  exact.format = Format::kFp4;
  result.codes = quantize(values, choose_qparams(range, exact, PointKind::kWeight));
  return result;
}

}  // namespace

CompressedWeight round_to_nearest(const at::Tensor& weight, const QuantizationSpec& spec) {
  const auto exact = checked_spec(spec);
  const auto values = weight.detach().to(at::kFloat);
  return codes_in(values, range_of(values, exact), exact, c10::nullopt);
}

PartRounding::PartRounding(at::Tensor whole, QuantizationSpec spec)
    : whole_(std::move(whole)), spec_(checked_spec(spec)) {}

CompressedWeight PartRounding::round(const at::Tensor& part) {
  const auto values = part.detach().to(at::kFloat);
  const Range range = range_of(values, spec_);
  // What a part tolerates, the whole weight does too.
  if (!tolerated_ && clamps_zero_points(spec_) && loses_values_of_one_sign(range, spec_)) {
    tolerated_ = largest_half_step(range_of(whole_.detach().to(at::kFloat), spec_), spec_);
  }
  return codes_in(values, range, spec_, tolerated_);
}

}  // namespace tsquant
