#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace tsquant::cli {

/// Pictures of the ten digits: turned, sheared, scaled and shifted at random, crossed by a line, under noise.
struct DigitData {
  at::Tensor images;  ///< uint8 [count, 1, 24, 24]
  at::Tensor labels;  ///< int64 [count]
};
DigitData draw_digits(int64_t count, uint64_t seed);

/// Writes the pictures as a TorchScript module with the buffers `images` and `labels`.
void save_digits(const DigitData& data, const std::string& path);

}  // namespace tsquant::cli
