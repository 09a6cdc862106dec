#pragma once

#include "tsquant/model.h"
#include "tsquant/strip.h"

namespace tsquant {

/// Weights behind quantizers that were trained (CompressionFormat::kFQ, kFQLora) become packed codes, floats, or floats
/// behind LibTorch's fake quantizes; adapters are part of them. @return whether there were any
/// @throws Error naming the weight: values that are not finite, numbers of levels that have no codes
bool strip_trainable(Model& model, StripFormat format);

}  // namespace tsquant
