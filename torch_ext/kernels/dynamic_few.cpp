// Products of compressed weights with a few quantized inputs: generation of tokens.
#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>

#include "kernels/dynamic_dot.h"
#include "kernels/dynamic_inputs.h"
#include "kernels/dynamic_products.h"

namespace tsquant::kernels {
namespace {

/// About 20 microseconds of products.
constexpr int64_t kDynamicProductsPerTask = 1 << 19;

/// The codes as they are where the kernel can read them; else one in a byte.
DotCodes dot_codes(const CompressedMatrix& m) {
  if (m.bits() == 8) return m.kind() == LevelKind::kSigned ? DotCodes::kSigned : DotCodes::kWide;
  for (const auto& [bits, codes] :
       {std::pair{2, DotCodes::kQuarters}, std::pair{3, DotCodes::kThreeBits}, std::pair{4, DotCodes::kHalves}}) {
    if (m.bits() == bits && supports_dot(codes, m.groups(), m.group_size())) return codes;
  }
  return DotCodes::kBytes;
}

/// Strips of rows of weights. One object per thread.
class StripReader {
 public:
  explicit StripReader(const CompressedMatrix& m) : m_(m), parameters_(m, kDotRows) {
    strip_.form = dot_codes(m);
    strip_.groups = m.groups();
    strip_.group_size = m.group_size();
    copies_ = strip_.form == DotCodes::kBytes;
    strip_.stride = copies_ ? m.size() : packed_row_size(m.size(), m.bits());
    if (copies_) codes_.resize(static_cast<size_t>(kDotRows * m.size()));
  }

  const DotStrip& read(int64_t row, int64_t rows) {
    parameters_.start(row, rows);
    strip_.rows = rows;
    strip_.scales = parameters_.scales(0);
    strip_.zeros = parameters_.zeros(0);
    strip_.codes = copies_ ? codes_.as<uint8_t>() : m_.codes(row);
    for (int64_t i = 0; copies_ && i < rows; ++i) {
      unpack_codes(m_.codes(row + i), m_.size(), m_.bits(), 0, m_.size(), 0, codes_.as<uint8_t>() + i * m_.size());
    }
    return strip_;
  }

 private:
  const CompressedMatrix& m_;
  RowParameters parameters_;
  DotStrip strip_;
  bool copies_ = false;
  AlignedBuffer codes_;
};

}  // namespace

bool supports_dynamic_few(const CompressedMatrix& matrix) {
  return supports_dot(dot_codes(matrix), matrix.groups(), matrix.group_size());
}

void dynamic_products_of_few(const LinearCall& c) {
  const CompressedMatrix& m = c.matrix;
  const DynamicInputs inputs(c.x, c.inputs, m.groups(), m.group_size(), m.group_size());
  const int64_t stride = arranged_size(dot_codes(m), m.size());
  const AlignedBuffer arranged(static_cast<size_t>(stride * c.inputs));
  for (int64_t i = 0; i < c.inputs; ++i) {
    arrange_codes(dot_codes(m), inputs.codes(i), m.size(), arranged.as<int8_t>() + i * stride);
  }
  const int64_t strips = (m.rows() + kDotRows - 1) / kDotRows;
  const int64_t grain = std::max<int64_t>(1, kDynamicProductsPerTask / (stride * c.inputs * kDotRows));
  at::parallel_for(0, strips, grain, [&](int64_t begin, int64_t end) {
    StripReader reader(m);
    float totals[kDotRows];
    for (int64_t first = begin * kDotRows; first < std::min(end * kDotRows, m.rows()); first += kDotRows) {
      const DotStrip& strip = reader.read(first, std::min(kDotRows, m.rows() - first));
      for (int64_t i = 0; i < c.inputs; ++i) {
        dynamic_dot(strip, arranged.as<int8_t>() + i * stride, inputs.scales(i), inputs.sums(i), totals);
        float* y = c.y + i * m.rows() + first;
        for (int64_t row = 0; row < strip.rows; ++row) {
          y[row] = c.bias == nullptr ? totals[row] : totals[row] + c.bias[first + row];
        }
      }
    }
  });
}

}  // namespace tsquant::kernels
