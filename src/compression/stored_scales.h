#pragma once

#include <c10/core/ScalarType.h>

#include "compression/compressed_weight.h"
#include "compression/group_codec.h"

namespace tsquant {

/// Which scales a file can hold: those of the format, and, where these are floating-point numbers, of their type.
class StoredScales {
 public:
  /// @param type kFloat or kHalf; formats with scales of their own, powers of two and E4M3, take no notice of it
  /// @throws Error kInvalidArgument for another type
  StoredScales(const QParams& q, c10::ScalarType type);

  const GroupCodec& codec() const { return codec_; }
  /// The number nearest to a usable scale that can be stored. A scale that float16 cannot hold stays float32.
  float nearest(float scale) const;

 private:
  GroupCodec codec_;
  bool halves_;
};

/// The weight with scales that can be stored, and codes anew where that changes scales.
CompressedWeight with_stored_scales(const at::Tensor& weight, const CompressedWeight& compressed, c10::ScalarType type);

}  // namespace tsquant
