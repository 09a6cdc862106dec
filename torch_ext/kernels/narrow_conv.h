#pragma once

#include <cstdint>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/conv_geometry.h"
#include "kernels/epilogue.h"
#include "kernels/isa.h"

// 1x1 convolutions of few input channels. What follows the sums takes as long as the products there, so all else has to
// be little: the codes of a pixel stay in registers while the weights of all output channels pass, and 32 results are
// packed at once, in an order of channels that needs no shuffle behind it.
namespace tsquant::kernels {

/// Output channels that are computed together.
struct NarrowBlock {
  int64_t first_channel = 0;
  bool wide = true;        ///< 32 channels, else 16; it may overlap the block before it
  int64_t weights = 0;     ///< index of its first weight
  int64_t parameters = 0;  ///< index of its first multiplier and bias
};

/// Some pixels of one call.
struct NarrowRun {
  const uint8_t* source = nullptr;  ///< codes of the first pixel
  const std::vector<NarrowBlock>& blocks;
  const int16_t* weights = nullptr;  ///< [block][two vectors][pair of input channels][vector of the two][8 channels][2]
  const float *multiplier = nullptr, *bias = nullptr;  ///< in the order of the vectors
  const Epilogue& epilogue;
  int64_t first_pixel = 0, pixels = 0;
};

/// The loops of one instruction set by input channels: 8, 16, 24.
struct NarrowKernel {
  Isa isa;
  void (*run[3])(const NarrowRun& run);
};

/// Null where it is no faster than the row of the kernel table.
const NarrowKernel* narrow_kernel(Isa isa);

/// A convolution packed for it. Same bits as PackedConv.
class NarrowConv {
 public:
  /// Pointwise, one group, 8, 16 or 24 input channels and at least 32 output channels: fewer do not repay
  /// the way of a pixel into registers.
  static bool supports(const ConvGeometry& geometry);
  /// Only codes without an activation and without a residual.
  static bool supports(const Epilogue& epilogue);

  /// @param weight [out_channels][channels]
  NarrowConv(const NarrowKernel& kernel, const int8_t* weight, const ConvGeometry& geometry);

  /// @param source channels-last codes; @param epilogue of the one phase
  void run(const ConvGeometry& geometry, const uint8_t* source, const Epilogue& epilogue) const;

 private:
  std::vector<float> arranged(const float* values) const;

  const NarrowKernel& kernel_;
  int64_t channels_;
  std::vector<NarrowBlock> blocks_;
  AlignedBuffer weights_;
  std::vector<int64_t> order_;  ///< output channel of each parameter
};

}  // namespace tsquant::kernels
