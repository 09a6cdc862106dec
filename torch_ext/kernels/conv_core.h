#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/conv_spec.h"
#include "kernels/vnni_conv.h"

namespace tsquant::kernels {

/// One use of a convolution: shapes and quantization parameters. Equal calls share their preparation.
struct ConvCall {
  std::array<int64_t, 5> sizes{};  ///< of the input: batch, channels, spatial...
  int64_t rank = 4;                ///< 4 or 5
  double in_scale = 1, out_scale = 1;
  int64_t in_zero_point = 0, out_zero_point = 0;
  bool floats = false;  ///< float32 output instead of codes
  bool clamp = true;    ///< apply the fused activation
  /// Residual calls: the convolution's own result is quantized with these before the residual is added.
  bool middle = false;
  double middle_scale = 1;
  int64_t middle_zero_point = 0;

  std::vector<int64_t> input() const { return {sizes.begin(), sizes.begin() + rank}; }
  bool operator==(const ConvCall& o) const;
};

/// Residual codes that are added before the activation; they have the layout of the result.
struct Residual {
  const uint8_t* codes = nullptr;
  double scale = 1;
  int64_t zero_point = 0;
};

/// An integer convolution that prepares itself for each call it meets and remembers the last ones. Thread-safe.
/// AVX512-VNNI machines run one group and up to two spatial dimensions with the kernel of vnni_tile.cpp, everything
/// else goes to oneDNN.
class ConvCore {
 public:
  explicit ConvCore(ConvSpec spec);

  const ConvSpec& spec() const { return spec_; }
  std::vector<int64_t> output_sizes(const std::vector<int64_t>& input) const;

  /// Channels-last data. Returns false, with nothing written, when the call has to be computed through floats: a
  /// residual on oneDNN, or scales so far apart that the conversion to integers could overflow.
  bool run(const ConvCall& call, const uint8_t* source, void* result, const Residual* residual = nullptr) const;

 private:
  struct Plan;
  std::shared_ptr<const Plan> plan_for(const ConvCall& call) const;
  std::shared_ptr<const Plan> make_plan(const ConvCall& call) const;
  bool geometry_for(const ConvCall& call, ConvGeometry& geometry) const;
  const VnniConv& packed(const ConvGeometry& geometry) const;

  ConvSpec spec_;
  WeightSums sums_;
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<const Plan>> plans_;
  mutable std::once_flag packed_once_;
  mutable std::unique_ptr<VnniConv> packed_;
};

}  // namespace tsquant::kernels
