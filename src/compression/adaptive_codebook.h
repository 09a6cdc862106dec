#pragma once

#include <string>
#include <vector>

#include "compression/layer_error.h"
#include "compression/layer_samples.h"
#include "tsquant/compression_parameters.h"
#include "tsquant/quantization_spec.h"

namespace tsquant {

/// A layer that a codebook is for.
struct CodebookLayer {
  at::Tensor weight;  ///< [out_features, in_features] or the other way round
  const LayerSamples* samples;
};

struct AdaptiveCodebook {
  /// Ascending; less than num_elements where rounding made some equal. As the codebook of a QuantizationSpec with
  /// `codebook_format(levels.size())` it is ready for round_to_nearest.
  std::vector<float> levels;
  std::vector<OutputError> errors;  ///< of each layer on all samples; before: with the codebook to start from
};

/// One codebook for some layers. Weights, divided by the scale of their group, are clustered by k-means, weighted by
/// the largest input of their channel. The centres of several rounds, the codebook to start from and the integers
/// around 0 are rounded to the value type; the best of them has the smallest sum over layers of mean |W X - Q X| times
/// mean |X|. Source: nncf codebook_estimation.py; k-means there is given fewer rounds and bins.
/// @param spec of the weights: group_size, with the inputs along group_axis, or per_channel, with the outputs along
///        ch_axis; format and codebook are set here
/// @param codebook to start from, ascending; empty: CB4
/// @throws Error kInvalidArgument for no layers, parameters out of their limits, a codebook that check_codebook refuses
///         or that has not num_elements levels, and as LayerMatrix; kCalibration without samples
AdaptiveCodebook adaptive_codebook(const std::vector<CodebookLayer>& layers, const QuantizationSpec& spec,
                                   const AdaptiveCodebookParameters& parameters = {},
                                   const std::vector<float>& codebook = {});

/// The weights that share a codebook, by their index: each its own, or with across_blocks those whose names are equal
/// but for characters that are no letters, in the order of their first one.
std::vector<std::vector<size_t>> codebook_groups(const std::vector<std::string>& names,
                                                 const AdaptiveCodebookParameters& parameters);

}  // namespace tsquant
