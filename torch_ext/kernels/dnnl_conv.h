#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/requantize.h"

namespace tsquant::kernels {

struct ConvSpec;

/// A convolution or transposed convolution of any rank and group count on oneDNN, prepared for one input shape and one
/// set of scales. The primitive, its packed weights and its bias are made once; a call only sets pointers.
class DnnlConv {
 public:
  /// @param input, output sizes as LibTorch orders them (batch, channels, spatial...), @param floats float32 output
  DnnlConv(const ConvSpec& spec, const std::vector<int64_t>& input, const std::vector<int64_t>& output,
           const Requantize& requantize, int32_t input_zero_point, bool floats);
  ~DnnlConv();
  DnnlConv(const DnnlConv&) = delete;
  DnnlConv& operator=(const DnnlConv&) = delete;

  /// Channels-last data.
  void run(const uint8_t* source, void* result) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tsquant::kernels
