#include "compression/group_codec.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "numerics/formats.h"

namespace tsquant {

GroupCodec::GroupCodec(const QParams& q) : scale_format_(format_info(q.format).scale) {
  CodeOptions options;
  options.is_signed = q.dtype == c10::kChar;
  options.codebook = q.codebook;
  const FormatInfo& info = format_info(q.format);
  codec_ = row_of(q.format).make_codec(info, options);
  if (q.tensor_scale.defined()) tensor_scale_ = q.tensor_scale.item<float>();
  signed_scales_ = info.integer && options.is_signed;
}

void GroupCodec::encode(const float* w, int64_t count, float scale, int64_t zero_point, uint8_t* codes,
                        float* levels) const {
  const auto zero = static_cast<float>(zero_point);
  for (int64_t i = 0; i < count; ++i) levels[i] = w[i] / scale + zero;
  codec_->encode(levels, count, codes);
  codec_->decode(codes, count, levels);
  for (int64_t i = 0; i < count; ++i) levels[i] -= zero;
}

void GroupCodec::encode_each(const float* w, int64_t count, const float* scales, const int64_t* zero_points,
                             uint8_t* codes, float* levels) const {
  for (int64_t i = 0; i < count; ++i) levels[i] = w[i] / scales[i] + static_cast<float>(zero_points[i]);
  codec_->encode(levels, count, codes);
  codec_->decode(codes, count, levels);
  for (int64_t i = 0; i < count; ++i) levels[i] -= static_cast<float>(zero_points[i]);
}

float GroupCodec::storable(float scale) const {
  switch (scale_format_) {
    case ScaleFormat::kPowerOfTwo:
      return std::ldexp(1.0F, std::clamp(static_cast<int>(std::nearbyint(std::log2(scale))), -127, 127));
    case ScaleFormat::kE4M3:
      return std::max(tsquant::decode(tsquant::encode(scale / tensor_scale_, kE4M3), kE4M3), std::ldexp(1.0F, -9)) *
             tensor_scale_;
    case ScaleFormat::kFloat:
      break;
  }
  return scale;
}

float GroupCodec::other_storable(float scale) const {
  const float nearest = storable(scale);
  if (scale_format_ != ScaleFormat::kPowerOfTwo) return nearest;
  return storable(nearest > scale ? nearest / 2 : nearest * 2);
}

bool GroupCodec::usable(float scale) const { return std::isfinite(scale) && (signed_scales_ ? scale != 0 : scale > 0); }

at::Tensor whole_scales(const QParams& q) {
  return (q.tensor_scale.defined() ? q.scale * q.tensor_scale : q.scale.clone()).contiguous();
}

void set_whole_scales(QParams& q, const at::Tensor& scales) {
  // The quotient may be a bit off the number that was multiplied.
  q.scale = q.tensor_scale.defined()
                ? tsquant::decode(tsquant::encode(scales / q.tensor_scale, Format::kF8E4M3), Format::kF8E4M3)
                : scales;
}

}  // namespace tsquant
