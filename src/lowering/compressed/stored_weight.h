#pragma once

#include <string>
#include <vector>

#include "compression/compressed_weight.h"

namespace tsquant {

/// A compressed weight as the tensors that a file holds.
///
/// Integers: value = (code - zero_point) * scale; other formats: table[code] * scale.
struct StoredWeight {
  Format format = Format::kInt8;
  bool is_signed = true;        ///< integers without zero points: codes are stored less the lowest one (int8: as int8)
  std::vector<int64_t> shape;   ///< of the weight
  std::vector<int64_t> groups;  ///< shape in which `scale` broadcasts over the values; equal to `shape` without groups
  at::Tensor codes;             ///< packed rows (numerics/pack.h), [..., bytes]
  at::Tensor scale;             ///< float16, or float32 where float16 cannot hold one of them
  at::Tensor zero_point;        ///< all in one packed row; undefined without
  at::Tensor table;             ///< float32 [2^bits], the levels by code; undefined for integers
  c10::ScalarType dtype = c10::kFloat;  ///< of the weight that readers see

  int64_t bytes() const;
};

/// Codes as a file holds them: packed rows; codes of 8 bits stay bytes.
at::Tensor stored_codes(const at::Tensor& codes, Format format);
/// The codes again. @param size of a row @param dtype kChar for signed integers, else kByte
at::Tensor restored_codes(const at::Tensor& stored, Format format, int64_t size, c10::ScalarType dtype);

/// What parameters say apart from scales and zero points. @param codebook of formats that have one
QParams code_parameters(Format format, bool is_signed, std::vector<float> codebook = {});

/// @param shape,dtype of the float weight
StoredWeight store_weight(const CompressedWeight& weight, at::IntArrayRef shape, c10::ScalarType dtype);

/// The codes and parameters again: the same but for scales, which have the precision of the file.
CompressedWeight restore_weight(const StoredWeight& stored);

/// The same without the codes.
QParams restore_parameters(const StoredWeight& stored);

/// The same weight with two axes exchanged: codes, groups and scales.
StoredWeight swap_axes(const StoredWeight& stored, int64_t a, int64_t b);

/// What readers get: the levels times the scale, rounded to the scale's type and then to that of the weight.
at::Tensor decompressed_value(const StoredWeight& stored);

/// ||W - Q||^2 / ||W||^2 for what readers get, as error_of_values (compression/layer_error.h), a part at a time.
double error_of_stored(const at::Tensor& weight, const StoredWeight& stored);

}  // namespace tsquant
