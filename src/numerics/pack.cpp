#include "numerics/pack.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "numerics/large_output.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

constexpr int64_t kValuesPerTask = 16384;

/// Calls body(width, first bit, offset in the row) for each plane of a row.
template <typename Body>
void for_planes(int64_t size, int bits, const Body& body) {
  int64_t offset = 0;
  int first = 0;
  for (const int width : {8, 4, 2, 1}) {
    if ((bits & width) == 0) continue;
    body(width, first, offset);
    offset += (size * width + 7) / 8;
    first += width;
  }
}

/// What is added to a code of this type so that it has no sign.
int shift_of(c10::ScalarType dtype, int bits) { return dtype == c10::kChar && bits < 8 ? 1 << (bits - 1) : 0; }

void check_type(c10::ScalarType dtype, Format format) {
  if (dtype == c10::kByte || (dtype == c10::kChar && format_info(format).integer)) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("codes of {} have the type {}", to_string(format), toString(dtype)), "",
              "give uint8, or int8 for signed integers");
}

// Eight codes as the bytes of one number, the first one in the lowest byte.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "codes are packed as little-endian numbers");
constexpr uint64_t kEachByte = 0x0101010101010101;

uint64_t eight_bytes(const uint8_t* bytes) {
  uint64_t eight = 0;
  std::memcpy(&eight, bytes, sizeof(eight));
  return eight;
}

/// Sums of bytes, without carry from one to the next.
uint64_t plus_eight(uint64_t a, uint64_t b) {
  constexpr uint64_t kHighest = 0x80 * kEachByte;
  return ((a & ~kHighest) + (b & ~kHighest)) ^ ((a ^ b) & kHighest);
}

uint64_t plus_each(uint64_t a, int shift) { return plus_eight(a, static_cast<uint64_t>(shift) * kEachByte); }

/// Numbers of this many bits that stand in every so many bits.
constexpr uint64_t every(int bits, int step) {
  uint64_t mask = 0;
  for (int at = 0; at < 64; at += step) mask |= ((uint64_t{1} << bits) - 1) << at;
  return mask;
}

/// The lowest kWidth bits of each byte, side by side.
template <int kWidth>
uint64_t gather_bits(uint64_t x) {
  x &= every(kWidth, 8);
  x = (x | x >> (8 - kWidth)) & every(2 * kWidth, 16);
  x = (x | x >> (16 - 2 * kWidth)) & every(4 * kWidth, 32);
  return (x | x >> (32 - 4 * kWidth)) & every(8 * kWidth, 64);
}

/// The reverse.
template <int kWidth>
uint64_t spread_bits(uint64_t x) {
  x = (x | x << (32 - 4 * kWidth)) & every(4 * kWidth, 32);
  x = (x | x << (16 - 2 * kWidth)) & every(2 * kWidth, 16);
  return (x | x << (8 - kWidth)) & every(kWidth, 8);
}

/// Bits [first, first + kWidth) of the codes.
/// @return all bits of codes that occur
template <int kWidth>
int pack_plane(const uint8_t* codes, int64_t size, int first, int shift, uint8_t* bytes) {
  constexpr int kPerByte = 8 / kWidth, kMask = (1 << kWidth) - 1;
  int seen = 0;
  int64_t i = 0;
  if constexpr (kWidth < 8) {
    uint64_t seen_by_eight = 0;
    for (; i + 8 <= size; i += 8) {
      const uint64_t eight = plus_each(eight_bytes(codes + i), shift);
      seen_by_eight |= eight;
      const uint64_t packed = gather_bits<kWidth>(eight >> first);
      std::memcpy(bytes + i / kPerByte, &packed, kWidth);
    }
    for (; seen_by_eight != 0; seen_by_eight >>= 8) seen |= static_cast<int>(seen_by_eight & 0xFF);
  }
  std::fill(bytes + i / kPerByte, bytes + (size + kPerByte - 1) / kPerByte, uint8_t{0});
  for (; i < size; ++i) {
    const int code = (codes[i] + shift) & 0xFF;
    seen |= code;
    bytes[i / kPerByte] |= static_cast<uint8_t>(((code >> first) & kMask) << (i % kPerByte * kWidth));
  }
  return seen;
}

template <int kWidth>
void unpack_plane(const uint8_t* bytes, int64_t size, int first, uint8_t* codes) {
  constexpr int kPerByte = 8 / kWidth, kMask = (1 << kWidth) - 1;
  int64_t i = 0;
  if constexpr (kWidth < 8) {
    for (; i + 8 <= size; i += 8) {
      uint64_t packed = 0;
      std::memcpy(&packed, bytes + i / kPerByte, kWidth);
      const uint64_t eight = plus_eight(eight_bytes(codes + i), spread_bits<kWidth>(packed) << first);
      std::memcpy(codes + i, &eight, sizeof(eight));
    }
  }
  for (; i < size; ++i) {
    const int part = (bytes[i / kPerByte] >> (i % kPerByte * kWidth)) & kMask;
    codes[i] = static_cast<uint8_t>(codes[i] + (part << first));
  }
}

int pack_row(const uint8_t* codes, int64_t size, int bits, int shift, uint8_t* bytes) {
  int seen = 0;
  for_planes(size, bits, [&](int width, int first, int64_t offset) {
    const auto plane = width == 8   ? pack_plane<8>
                       : width == 4 ? pack_plane<4>
                       : width == 2 ? pack_plane<2>
                                    : pack_plane<1>;
    seen |= plane(codes, size, first, shift, bytes + offset);
  });
  return seen;
}

void unpack_row(const uint8_t* bytes, int64_t size, int bits, int shift, uint8_t* codes) {
  std::fill(codes, codes + size, static_cast<uint8_t>(-shift));
  for_planes(size, bits, [&](int width, int first, int64_t offset) {
    const auto plane = width == 8   ? unpack_plane<8>
                       : width == 4 ? unpack_plane<4>
                       : width == 2 ? unpack_plane<2>
                                    : unpack_plane<1>;
    plane(bytes + offset, size, first, codes);
  });
}

struct Rows {
  int64_t count, size;
  std::vector<int64_t> shape;

  explicit Rows(const at::Tensor& x) : size(x.dim() == 0 ? 1 : x.size(-1)), shape(x.sizes().vec()) {
    if (shape.empty()) shape.push_back(1);
    count = size == 0 ? 0 : x.numel() / size;
  }

  at::Tensor bytes(int64_t row_size, c10::ScalarType dtype) {
    shape.back() = row_size;
    return large_output(shape, dtype);
  }

  int64_t grain() const { return std::max<int64_t>(1, kValuesPerTask / std::max<int64_t>(1, size)); }
};

}  // namespace

int64_t packed_size(int64_t size, Format format) {
  int64_t bytes = 0;
  for_planes(size, format_info(format).bits, [&](int width, int, int64_t) { bytes += (size * width + 7) / 8; });
  return bytes;
}

at::Tensor pack(const at::Tensor& codes, Format format) {
  check_type(codes.scalar_type(), format);
  const int bits = format_info(format).bits, shift = shift_of(codes.scalar_type(), bits);
  const auto whole = codes.contiguous();
  Rows rows(whole);
  const int64_t bytes = packed_size(rows.size, format);
  auto packed = rows.bytes(bytes, at::kByte);
  const auto* from = static_cast<const uint8_t*>(whole.data_ptr());
  auto* to = packed.data_ptr<uint8_t>();
  std::atomic<int> seen{0};
  at::parallel_for(0, rows.count, rows.grain(), [&](int64_t begin, int64_t end) {
    int found = 0;
    for (int64_t row = begin; row < end; ++row) {
      found |= pack_row(from + row * rows.size, rows.size, bits, shift, to + row * bytes);
    }
    seen |= found;
  });
  if (seen < 1 << bits) return packed;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("a code needs more than the {} bits of {}", bits, to_string(format)), "",
              "quantize to this format first");
}

at::Tensor unpack(const at::Tensor& packed, Format format, int64_t size, c10::ScalarType dtype) {
  check_type(dtype, format);
  const auto whole = packed.contiguous();
  Rows rows(whole);
  if (packed.scalar_type() != at::kByte || size < 0 || rows.size != packed_size(size, format)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("rows of {} values of type {} are not {} packed codes of {}", rows.size,
                            toString(packed.scalar_type()), size, to_string(format)),
                "", fmt::format("give uint8 rows of {} bytes", packed_size(std::max<int64_t>(size, 0), format)));
  }
  const int bits = format_info(format).bits, shift = shift_of(dtype, bits);
  const int64_t bytes = rows.size;
  auto codes = rows.bytes(size, dtype);
  const auto* from = whole.data_ptr<uint8_t>();
  auto* to = static_cast<uint8_t*>(codes.data_ptr());
  at::parallel_for(0, rows.count, rows.grain(), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) unpack_row(from + row * bytes, size, bits, shift, to + row * size);
  });
  return codes;
}

}  // namespace tsquant
