#include "numerics/row_loops.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "numerics/formats.h"
#include "numerics/groups.h"
#include "numerics/pack.h"

namespace tsquant {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();

/// Random numbers, ties between codes, zeros and what lies beyond every grid.
std::vector<float> hard_values(int64_t count, float scale) {
  std::vector<float> values{0.F, -0.F, kNan, -kNan, kInf, -kInf, 1e-45F, -1e-45F, 3e38F, -3e38F, 1e-30F};
  for (int i = -300; i <= 300; ++i) values.push_back((static_cast<float>(i) + 0.5F) * scale);
  const auto random = at::randn({count});
  for (int64_t i = 0; i < count; ++i) values.push_back(random.data_ptr<float>()[i] * scale * 20);
  return values;
}

/// As it is written in the header, one value at a time.
uint8_t code_of(float x, float scale, float zero_point, const CodeBounds& bounds) {
  const float scaled = x / scale + zero_point;
  if (!(scaled > bounds.low)) return static_cast<uint8_t>(static_cast<int>(bounds.low));
  return static_cast<uint8_t>(static_cast<int>(scaled < bounds.high ? std::nearbyint(scaled) : bounds.high));
}

TEST(RowLoops, CodesAreThoseOfTheFormula) {
  at::manual_seed(1);
  for (const float scale : {0.013F, -0.013F, 1.F, 1.1920929e-07F, 1e30F}) {
    for (const auto& [low, high] : {std::pair{-128.F, 127.F}, {0.F, 255.F}, {-8.F, 7.F}, {0.F, 15.F}, {-2.F, 1.F}}) {
      for (const float zero_point : {0.F, 3.F, high}) {
        const CodeBounds bounds{low, high};
        const auto x = hard_values(1000, scale);
        for (const size_t skip : {0, 1, 5}) {  // other alignments and tails
          std::vector<uint8_t> codes(x.size() - skip, 0xEE);
          encode_rows(x.data() + skip, 1, static_cast<int64_t>(codes.size()), &scale, &zero_point, bounds,
                      codes.data());
          for (size_t i = 0; i < codes.size(); ++i) {
            ASSERT_EQ(codes[i], code_of(x[i + skip], scale, zero_point, bounds)) << x[i + skip];
          }
        }
      }
    }
  }
}

TEST(RowLoops, RangesAreThoseOfLibTorch) {
  at::manual_seed(2);
  for (int64_t n = 1; n < 70; ++n) {
    auto x = at::randn({6, n});
    // In rows of their own: they must not be seen in others.
    x[1][n * 7 / 10] = kInf;
    x[2][n * 7 / 10] = -kInf;
    x[3][n * 7 / 10] = kNan;
    x[5][n - 1] = -kNan;
    auto low = at::empty({6}), high = at::empty({6});
    ranges_of_rows(x.data_ptr<float>(), 6, n, low.data_ptr<float>(), high.data_ptr<float>());
    EXPECT_TRUE(at::allclose(low, x.amin(1), 0, 0, /*equal_nan=*/true)) << n;
    EXPECT_TRUE(at::allclose(high, x.amax(1), 0, 0, /*equal_nan=*/true)) << n;
  }
}

TEST(RowLoops, GroupsAlongEveryAxisHaveTheSameCodes) {
  at::manual_seed(3);
  const auto x = at::randn({8, 12, 16});
  for (const int64_t axis : {0, 1, 2}) {
    const auto across = x.movedim(axis, 2).contiguous();
    const Range range = group_range(x, 4, axis), expected = group_range(across, 4, 2);
    EXPECT_TRUE(at::equal(range.min.movedim(axis, 2), expected.min));
    EXPECT_TRUE(at::equal(range.max.movedim(axis, 2), expected.max));
    for (const bool is_signed : {false, true}) {
      QParams q;
      q.format = Format::kInt4;
      q.formula = QParamsFormula::kNncfCompression;
      q.dtype = is_signed ? at::kChar : at::kByte;
      q.quant_min = is_signed ? -8 : 0;
      q.quant_max = is_signed ? 7 : 15;
      q.group_size = 4;
      q.group_axis = axis;
      q.scale = (range.max - range.min) / 15;
      q.zero_point = is_signed ? at::zeros(q.scale.sizes(), at::kLong) : (-range.min / q.scale).round().to(at::kLong);
      const auto codes = quantize(x, q);
      QParams last = q;
      last.group_axis = 2;
      last.scale = q.scale.movedim(axis, 2).contiguous();
      last.zero_point = q.zero_point.movedim(axis, 2).contiguous();
      EXPECT_TRUE(at::equal(codes.movedim(axis, 2), quantize(across, last)));
      // A tensor that is not contiguous is quantized by LibTorch's operators.
      EXPECT_TRUE(at::equal(codes, quantize(x.transpose(0, 1).contiguous().transpose(0, 1), q)));
    }
  }
}

TEST(RowLoops, PackedBitsStandWhereTheFormatSays) {
  at::manual_seed(4);
  for (const auto& [format, bits] : {std::pair{Format::kInt4, 4}, {Format::kInt3, 3}, {Format::kInt2, 2}}) {
    for (const int64_t size : {1, 7, 8, 9, 16, 33, 64}) {
      for (const auto dtype : {at::kByte, at::kChar}) {
        const int64_t half = dtype == at::kChar ? 1 << (bits - 1) : 0;
        const auto codes = (at::randint(0, 1 << bits, {3, size}, at::kLong) - half).to(dtype);
        const auto packed = pack(codes, format);
        ASSERT_EQ(packed.size(1), packed_size(size, format));
        EXPECT_TRUE(at::equal(unpack(packed, format, size, dtype), codes));
        for (int64_t i = 0; i < size; ++i) {
          int64_t code = 0, plane = 0;
          int first = 0;
          for (const int width : {4, 2, 1}) {
            if ((bits & width) == 0) continue;
            const int byte = packed[2][plane + i * width / 8].item<uint8_t>();
            code |= int64_t{(byte >> (i * width % 8)) & ((1 << width) - 1)} << first;
            plane += (size * width + 7) / 8;
            first += width;
          }
          ASSERT_EQ(code - half, codes[2][i].item<int64_t>());
        }
      }
    }
  }
}

}  // namespace
}  // namespace tsquant
