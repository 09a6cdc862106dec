#pragma once

#include <c10/util/Optional.h>

#include "compression/compressed_weight.h"
#include "compression/layer_error.h"
#include "compression/layer_samples.h"
#include "tsquant/compression_parameters.h"

namespace tsquant {

/// A low-rank correction of a compressed weight: y = x Q^T + (x A^T) B^T.
struct LoraAdapters {
  at::Tensor a;  ///< float32 [rank, in_features], as it is applied
  at::Tensor b;  ///< float32 [out_features, rank]
  /// With use_int8_adapters what `a` and `b` are the values of.
  c10::optional<CompressedWeight> a_codes, b_codes;
  OutputError error;  ///< on the samples used; before: without the correction
};

/// Adapters whose product is close to what compression has taken from the weight, on the samples and, with
/// apply_regularization, as a matrix: a truncated singular value decomposition, in groups weighted by the largest
/// inputs, and then least squares for A and B in turn. Source: nncf lora_correction.py, computed in float64.
/// Without iterations the weighting is taken back, which NNCF does not.
/// @param weight of a linear layer, [out_features, in_features] or the other way round
/// @param compressed the same weight, by any algorithm, with groups along the inputs or one scale per output
/// @param parameters an adapter_rank above the weight's smaller dimension counts as that
/// @throws Error kInvalidArgument for parameters out of their limits, other weights than matrices, codes of another
///         shape, and samples of another number of channels; kCalibration without samples
LoraAdapters lora_correction(const at::Tensor& weight, const CompressedWeight& compressed, const LayerSamples& samples,
                             const AdvancedLoraCorrectionParameters& parameters = {});

}  // namespace tsquant
