#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "tsquant/format.h"

namespace tsquant {

/// Bytes of one packed row of `size` codes.
int64_t packed_size(int64_t size, Format format);

/// Codes as bytes, row by row: [..., n] -> uint8 [..., packed_size(n)].
///
/// Codes of 4 bits stand two in a byte, those of 2 bits four and of 1 bit eight, the first in the lowest bits. Other
/// widths are split into such planes, lowest bits first: 3 bits are a plane of 2 and one of 1 bit, 7 bits planes of 4,
/// 2 and 1. A row starts at a new byte, and so does each of its planes; the bits of the last byte that no code needs
/// are 0. Signed integers (int8 codes) are stored less the lowest code, -8 of int4 as 0; a byte for 8 bits stays what
/// it is.
/// @throws Error kInvalidArgument when a code has more bits than the format, or the codes are neither int8 nor uint8
at::Tensor pack(const at::Tensor& codes, Format format);

/// The codes again.
/// @param size of a row, n
/// @param dtype kChar for signed integers, else kByte
/// @throws Error kInvalidArgument when the rows do not have packed_size(size) bytes
at::Tensor unpack(const at::Tensor& packed, Format format, int64_t size, c10::ScalarType dtype);

}  // namespace tsquant
