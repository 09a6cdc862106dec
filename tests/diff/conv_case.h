#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/conv_geometry.h"
#include "kernels/epilogue.h"
#include "kernels/gemm_table.h"

namespace tsquant::testing {

/// A convolution with everything that its kernels read, drawn at random from a seed.
struct RandomConv {
  enum class Result { kCodes, kClampedCodes, kResidual, kMiddle, kFloats, kClampedFloats, kActivated };

  kernels::ConvGeometry geometry;
  std::vector<kernels::Phase> phases;
  Result result = Result::kCodes;
  std::vector<uint8_t> source, other;
  std::vector<int8_t> weight;
  std::vector<float> multiplier;
  std::vector<float> factor;             ///< of activated results; empty: none
  std::vector<std::vector<float>> bias;  ///< per phase, as each moves the zero point of other taps
  uint8_t zero_point = 0;
  kernels::Epilogue epilogue;  ///< without pointers

  bool floats() const { return result == Result::kFloats || result == Result::kClampedFloats; }
  bool residual() const { return result == Result::kResidual || result == Result::kMiddle; }
  size_t results() const { return static_cast<size_t>(geometry.batch * geometry.out_pixels() * geometry.out_channels); }
  size_t result_bytes() const { return results() * (floats() ? sizeof(float) : 1); }
  std::string describe() const;
};

/// @param most_products limits the work, so that many cases take little time
RandomConv random_conv(uint32_t seed, int64_t most_products);

/// The same for a kernel that computes only some geometries.
RandomConv random_conv_of(const kernels::ConvGeometry& geometry, uint32_t seed);

/// The bytes that a kernel writes into the result when it is given the codes and one epilogue per phase. All memory
/// lies between guard pages.
using ConvKernel = std::function<void(const uint8_t* source, const std::vector<kernels::Epilogue>& epilogues)>;
std::vector<uint8_t> run_kernel(const ConvKernel& kernel, const RandomConv& conv);

/// The bytes that a row of the kernel table computes.
std::vector<uint8_t> run_row(const kernels::GemmRow& row, const RandomConv& conv);

/// The same from the definition: plain loops over outputs and taps, long double arithmetic.
std::vector<uint8_t> run_naively(const RandomConv& conv);

}  // namespace tsquant::testing
