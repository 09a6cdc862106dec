#include "lowering/trainable/trainable_weight.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "compression/round_to_nearest.h"
#include "lowering/compressed/broadcast_scale.h"
#include "lowering/compressed/stored_weight.h"
#include "numerics/formats.h"
#include "tsquant/error.h"

namespace tsquant {

TrainableWeight trainable_weight(const at::Tensor& weight, const CompressedWeight& compressed) {
  const QParams& q = compressed.qparams;
  TrainableWeight result;
  result.levels = int64_t{1} << format_info(q.format).bits;
  const auto [scale, groups] = broadcast_scale(compressed);
  result.groups = groups;
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
  const bool is_signed = limit.defined();
  CompressedWeight result;
  QParams& q = result.qparams;
  q = code_parameters(integer_format(std::lround(std::log2(levels))), is_signed);
  const at::Tensor scale =
      is_signed ? limit / static_cast<double>(levels / 2) : range / static_cast<double>(levels - 1);
  const at::Tensor zero_point = is_signed ? at::zeros_like(scale) : at::round(-low / scale).clamp(0, levels - 1);
  set_scale(q, scale.contiguous(), weight.sizes(), groups);
  q.zero_point = zero_point.to(at::kLong).reshape(q.scale.sizes());
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
