#pragma once

#include "lowering/compressed/stored_weight.h"

namespace tsquant {

/// The arguments of tsquant::linear_compressed and its kin: one row per output, groups along the row.
struct PackedRows {
  std::string format;  ///< name of the format
  int64_t size = 0;    ///< codes of a row
  int64_t group_size = 0;
  at::Tensor weight;      ///< uint8 (int8 for signed bytes) [rows, bytes]
  at::Tensor scale;       ///< float16 or float32 [rows, groups]
  at::Tensor zero_point;  ///< uint8 [rows, packed groups]; undefined without
  at::Tensor codebook;    ///< float32; undefined for formats with levels of their own
};

/// The first axis numbers the rows; where scales belong to groups of the last axis, all but the last do.
/// @return nullopt when the scales do not belong to rows, or groups of their elements
c10::optional<PackedRows> pack_rows(const StoredWeight& stored);

/// The weight again. @param shape,dtype of the float weight
StoredWeight unpack_rows(const PackedRows& rows, at::IntArrayRef shape, c10::ScalarType dtype);

}  // namespace tsquant
