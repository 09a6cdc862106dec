#pragma once

#include <memory>

#include "compression/compressed_weight.h"
#include "numerics/codec.h"

namespace tsquant {

/// Codes of single groups of a weight, for algorithms that try many scales.
class GroupCodec {
 public:
  /// @param q parameters of the whole weight
  explicit GroupCodec(const QParams& q);

  /// Codes of w / scale + zero_point, and the levels that they stand for, less the zero point: w is about
  /// level * scale.
  void encode(const float* w, int64_t count, float scale, int64_t zero_point, uint8_t* codes, float* levels) const;

  /// The same for values of different groups: w[i] with scales[i] and zero_points[i].
  void encode_each(const float* w, int64_t count, const float* scales, const int64_t* zero_points, uint8_t* codes,
                   float* levels) const;

  /// The scale nearest to `scale`, a usable one, that the format can store, the tensor's own factor included.
  float storable(float scale) const;
  /// Where scales are powers of two, the next one on the other side of `scale`; elsewhere the same as `storable`.
  float other_storable(float scale) const;
  /// Whether values can be divided by it: not 0, finite, and positive unless codes are symmetric integers.
  bool usable(float scale) const;

 private:
  ScaleFormat scale_format_;
  std::unique_ptr<Codec> codec_;
  float tensor_scale_ = 1;
  bool signed_scales_ = false;
};

/// The scales of a weight, the tensor's own factor included.
at::Tensor whole_scales(const QParams& q);
/// Makes them the scales of `q`; the format must be able to store them.
void set_whole_scales(QParams& q, const at::Tensor& scales);

}  // namespace tsquant
