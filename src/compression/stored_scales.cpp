#include "compression/stored_scales.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "numerics/formats.h"
#include "tsquant/error.h"

namespace tsquant {

StoredScales::StoredScales(const QParams& q, c10::ScalarType type) : codec_(q) {
  if (type != at::kFloat && type != at::kHalf) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("scales of type {}", c10::toString(type)), "scale_type",
                "choose float32 or float16");
  }
  halves_ = type == at::kHalf && format_info(q.format).scale == ScaleFormat::kFloat;
}

float StoredScales::nearest(float scale) const {
  if (!halves_) return codec_.storable(scale);
  const float half = static_cast<float>(static_cast<c10::Half>(scale));
  return codec_.usable(half) ? half : scale;
}

CompressedWeight with_stored_scales(const at::Tensor& weight, const CompressedWeight& compressed,
                                    c10::ScalarType type) {
  const StoredScales stored(compressed.qparams, type);
  if (type == at::kFloat) return compressed;
  CompressedWeight result = compressed;
  auto scales = whole_scales(compressed.qparams);
  auto* scale = scales.data_ptr<float>();
  for (int64_t i = 0; i < scales.numel(); ++i)
    scale[i] = stored.codec().usable(scale[i]) ? stored.nearest(scale[i]) : scale[i];
  if (at::equal(scales, whole_scales(compressed.qparams))) return compressed;
  set_whole_scales(result.qparams, scales);
  result.codes = quantize(weight, result.qparams);
  return result;
}

}  // namespace tsquant
