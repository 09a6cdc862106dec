#include "lowering/trainable/trainable_weight.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "compression/round_to_nearest.h"
#include "lowering/compressed/stored_weight.h"
#include "numerics/formats.h"
#include "numerics/groups.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// [out, groups, 1] for a weight [out, in], also without groups.
at::Tensor broadcast_scale(const CompressedWeight& compressed) {
  const QParams& q = compressed.qparams;
  const at::Tensor scale = q.scale.to(at::kFloat);
  if (q.group_size > 0) return Groups(compressed.codes, q.group_size, q.group_axis).broadcast(scale);
  std::vector<int64_t> shape(static_cast<size_t>(compressed.codes.dim()), 1);
  if (q.per_channel) shape[static_cast<size_t>(q.axis)] = scale.numel();
  return scale.reshape(shape);
}

/// Which axis of `parameters` numbers the channels; nullopt: there is one parameter.
c10::optional<int64_t> channel_axis(const at::Tensor& parameters) {
  for (int64_t i = 0; i < parameters.dim(); ++i) {
    if (parameters.size(i) > 1) return i;
  }
  return c10::nullopt;
}

int64_t split_axis(const TrainableWeight& weight, const at::Tensor& parameters) {
  for (int64_t axis = weight.weight.dim() - 1; axis >= 0; --axis) {
    const auto at = static_cast<size_t>(axis);
    if (parameters.size(axis + 1) == 1 && weight.groups[at] * weight.groups[at + 1] == weight.weight.size(axis)) {
      return axis;
    }
  }
  return weight.weight.dim() - 1;
}

}  // namespace

TrainableWeight trainable_weight(const at::Tensor& weight, const CompressedWeight& compressed) {
  const QParams& q = compressed.qparams;
  TrainableWeight result;
  result.levels = int64_t{1} << format_info(q.format).bits;
  const bool grouped = q.group_size > 0;
  result.groups =
      grouped ? Groups(weight, q.group_size, q.group_axis).split(weight).sizes().vec() : weight.sizes().vec();
  const at::Tensor scale = broadcast_scale(compressed);
  if (compressed.codes.scalar_type() == c10::kChar) {
    result.limit = scale * static_cast<double>(result.levels / 2);
  } else {
    result.low = -q.zero_point.to(at::kFloat).reshape(scale.sizes()) * scale;
    result.range = scale * static_cast<double>(result.levels - 1);
  }
  const bool is_rounded = at::equal(quantize(weight.to(at::kFloat), q), compressed.codes);
  result.weight = is_rounded ? weight : decompress(compressed).to(weight.scalar_type());
  return result;
}

void add_adapters(TrainableWeight& weight, int64_t rank, int64_t output_axis, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  const at::Tensor step = weight.limit.defined() ? at::abs(weight.limit) * (2.0 / static_cast<double>(weight.levels))
                                                 : weight.range / static_cast<double>(weight.levels - 1);
  const at::Tensor noise = at::rand(weight.groups, generator, at::kFloat) * step / 100;
  weight.is_transposed = output_axis == 1;
  const at::Tensor matrix = noise.reshape(weight.weight.sizes());
  const auto [u, s, v] = at::svd(weight.is_transposed ? matrix.t() : matrix);
  const at::Tensor root = s.slice(0, 0, rank).sqrt();
  weight.lora_b = (u.slice(1, 0, rank) * root).contiguous();
  weight.lora_a = (v.slice(1, 0, rank) * root).t().contiguous();
}

CompressedWeight TrainableWeight::codes() const {
  const at::NoGradGuard guard;
  const at::Tensor& parameters = limit.defined() ? limit : low;
  const bool is_signed = limit.defined();
  CompressedWeight result;
  QParams& q = result.qparams;
  q = code_parameters(integer_format(std::lround(std::log2(levels))), is_signed);
  const bool grouped = groups.size() > static_cast<size_t>(weight.dim());
  at::Tensor scale = is_signed ? limit / static_cast<double>(levels / 2) : range / static_cast<double>(levels - 1);
  at::Tensor zero_point = is_signed ? at::zeros_like(scale) : at::round(-low / scale).clamp(0, levels - 1);
  if (grouped) {
    q.group_axis = split_axis(*this, parameters);
    q.group_size = groups[static_cast<size_t>(q.group_axis) + 1];
    scale = scale.squeeze(q.group_axis + 1);
    zero_point = zero_point.squeeze(q.group_axis + 1);
  } else {
    const auto axis = channel_axis(parameters);
    q.per_channel = axis.has_value();
    q.axis = axis.value_or(0);
    scale = scale.reshape({-1});
    zero_point = zero_point.reshape({-1});
  }
  q.scale = scale.contiguous();
  q.zero_point = zero_point.to(at::kLong).contiguous();
  at::Tensor whole = weight.to(at::kFloat);
  if (lora_a.defined()) {
    const at::Tensor product = at::matmul(lora_b, lora_a);
    whole = whole + (is_transposed ? product.t() : product);
  }
  if (!at::isfinite(whole).all().item<bool>() || !at::isfinite(scale).all().item<bool>()) {
    throw Error(ErrorCode::kInvalidArgument, "a trained weight or quantizer holds NaN or infinite values", "",
                "train with a smaller learning rate");
  }
  result.codes = quantize(whole, q);
  return result;
}

at::Tensor TrainableWeight::value() const { return decompress(codes()).to(weight.scalar_type()); }

}  // namespace tsquant
