#pragma once

#include <cstdint>
#include <vector>

#include "kernels/conv_geometry.h"
#include "kernels/epilogue.h"

namespace tsquant::kernels {

/// Weights of depthwise channels that are computed together, in the order that the loops of one vector width read them.
struct DepthwiseBlock {
  int64_t first_channel = 0;
  int64_t weights = 0;  ///< index of the block's first weight
};

/// What the inner loops of one instruction set need; see depthwise_hwy.cpp.
struct DepthwisePlan {
  int64_t channels = 0, width = 0;     ///< channels of a block; 0: plain C++
  std::vector<DepthwiseBlock> blocks;  ///< the last one may overlap the one before it
  std::vector<int16_t> weights;        ///< [block][pair of taps][vector][channel of the vector][2]
  std::vector<int8_t> plain;           ///< [tap][channel]
  std::vector<int32_t> taps;           ///< two per pair: tap = row * kernel_w + column, or -1
};

struct DepthwiseCall;

/// The loops of one instruction set for a number of channels.
struct DepthwiseLoops {
  int64_t width = 0;                                                              ///< of DepthwisePlan
  void (*rows)(const DepthwiseCall& call, int64_t begin, int64_t end) = nullptr;  ///< computes the items [begin, end)
};

/// A convolution of every channel with its own kernel, on channels-last codes. Sums are exact: pairs of 16-bit products
/// added in 32 bits. All instruction sets give the same bits.
class DepthwiseConv {
 public:
  /// Packs for the instruction set that isa.h allows now, and keeps to it.
  /// @param weight [channels][kernel_h][kernel_w]
  DepthwiseConv(const int8_t* weight, const ConvGeometry& g);

  /// Whether sums of that many taps fit into 32 bits; `g` describes one image with out_channels == channels.
  static bool supports(const ConvGeometry& g);

  /// @param g geometry with the kernel, stride and dilation of the constructor and any image size
  /// @param source g.batch images of codes; pixels in the padding count as `input_zero_point`
  /// @param e what happens to the sums; its multiplier and bias have one entry per channel
  void run(const ConvGeometry& g, const uint8_t* source, uint8_t input_zero_point, const Epilogue& e) const;

 private:
  DepthwisePlan plan_;
  DepthwiseLoops loops_;
};

/// One call as the threads see it.
struct DepthwiseCall {
  const DepthwisePlan* plan = nullptr;
  ConvGeometry g;
  const uint8_t* source = nullptr;
  const uint8_t* padding_row = nullptr;  ///< a row of the image full of the input's zero point
  Epilogue e;
  const float* multiplier = nullptr;  ///< [block][channel], in the order of the sums of a block
  const float* bias = nullptr;
  const float* factor = nullptr;         ///< the same, or null
  int64_t groups = 1, group_blocks = 0;  ///< channel blocks, the rest to the last; items are [group][row of output]
};

/// The loops of the best instruction set that isa.h allows.
DepthwiseLoops choose_depthwise_loops(int64_t channels);

}  // namespace tsquant::kernels
