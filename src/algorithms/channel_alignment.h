#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "calibration/calibrator.h"
#include "tsquant/dataset.h"
#include "tsquant/model.h"

namespace tsquant {

/// Two layers between which the channels now have the same middle and, within limits, the same width.
struct AlignedPair {
  std::string producer, consumer;  ///< stable names
  at::Tensor shift;                ///< float32 [channels]: the producer's output was lowered by it
  at::Tensor factor;               ///< float32 [channels]: and divided by it
};

struct ChannelAlignmentResult {
  std::vector<AlignedPair> pairs;
  int64_t found = 0;                  ///< pairs in the graph; those left out have a warning
  std::vector<std::string> warnings;  ///< pairs left out, and why
};

/// Factors that give all channels the median width: width / median(positive widths), limited to [0.01, 100]; 1 where
/// the width is not positive.
at::Tensor alignment_factor(const at::Tensor& widths);

/// Makes the channels between two layers equally wide and centred, so that one scale fits them all:
///   W1 /= f, b1 = (b1 - m) / f        of the producer, per output channel
///   W2 *= f, b2 += sum(W2) m          of the consumer, per input channel
/// with f from the widths and m the middle of each channel's range, which is the median over samples of the 1e-4 and
/// 1 - 1e-4 quantiles. The pair computes the same function, because nothing stands between the layers.
///
/// Producers: convolutions, also with a constant added behind them. Consumers: convolutions with one group, stride 1,
/// no padding and dilation 1. The tensor between them has no other reader.
///
/// Source: nncf/quantization/algorithms/channel_alignment, with these differences: in a chain of layers each pair
/// starts from the weights that the pair before wrote; linear layers are no producers, because their channels are on
/// the last axis, where a convolution has positions. Views of the model's graph built before are no longer valid.
/// @param calibration how the statistics pass runs; its taps are replaced
/// @throws Error as calibrate
ChannelAlignmentResult align_channels(Model& model, const Dataset& dataset, CalibrationOptions calibration);

}  // namespace tsquant
