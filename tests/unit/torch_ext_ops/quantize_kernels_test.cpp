#include "ops/quantize_kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "ops/quantize_scalar.h"

namespace tsquant {
namespace {

/// Values that hit every code, its neighbours, exact ties and the extremes.
std::vector<float> awkward_values(int64_t n, float scale, uint32_t seed) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float extremes[] = {std::nanf(""), kInf, -kInf, 1e30f, -1e30f, 0.0f, -0.0f, 3e38f, -3e38f, 1e-42f};
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> code(-600, 600);
  std::uniform_real_distribution<float> any(-300.0f, 300.0f);
  std::vector<float> values(n);
  for (int64_t i = 0; i < n; ++i) {
    switch (random() % 4) {
      case 0:
        values[i] = static_cast<float>(code(random)) * 0.5f * scale;
        break;
      case 1:
        values[i] = any(random) * scale;
        break;
      case 2:
        values[i] = std::nextafter(static_cast<float>(code(random)) * 0.5f * scale, any(random));
        break;
      default:
        values[i] = extremes[random() % std::size(extremes)];
    }
  }
  return values;
}

/// Highway's name of an instruction set and its bit in the mask.
struct InstructionSet {
  const char* name;
  int bit;
};

/// Runs the test body once per instruction set of this machine.
class QuantizeKernels : public ::testing::TestWithParam<InstructionSet> {
 protected:
  void SetUp() override {
    restrict_quantize_kernel_targets(0);
    const int64_t mask = quantize_kernel_targets() & (int64_t{1} << GetParam().bit);
    if (mask == 0) GTEST_SKIP() << "this machine does not have " << GetParam().name;
    restrict_quantize_kernel_targets(mask);
    ASSERT_STREQ(quantize_kernel_target(), GetParam().name);
  }
  void TearDown() override { restrict_quantize_kernel_targets(0); }
};

template <typename T, class Quantize, class Dequantize>
void expect_as_scalar(const Quantize& quantize, const Dequantize& dequantize) {
  for (int64_t n = 0; n < 150; ++n) {
    const float scale = 0.013f + 0.1f * static_cast<float>(n % 7);
    const int64_t zero_point = (n * 37) % 300 - 30;
    const int64_t lowest = std::numeric_limits<T>::min(), highest = std::numeric_limits<T>::max();
    const int64_t quant_min = lowest + n % 3, quant_max = highest - n % 5;
    const auto x = awkward_values(n, scale, static_cast<uint32_t>(n));
    std::vector<T> codes(n + 1, T{77}), expected_codes(n + 1, T{77});
    quantize(x.data(), n, inverse_scale(scale), zero_point, quant_min, quant_max, codes.data());
    quantize_scalar(x.data(), n, inverse_scale(scale), zero_point, quant_min, quant_max, expected_codes.data());
    ASSERT_EQ(codes, expected_codes) << "n " << n;
    std::vector<float> values(n + 1, -5.0f), expected_values(n + 1, -5.0f);
    dequantize(codes.data(), n, scale, zero_point, values.data());
    dequantize_scalar(codes.data(), n, scale, zero_point, expected_values.data());
    ASSERT_EQ(values, expected_values) << "n " << n;
  }
}

TEST_P(QuantizeKernels, FlatEqualsScalar) {
  expect_as_scalar<uint8_t>(quantize_u8, dequantize_u8);
  expect_as_scalar<int8_t>(quantize_s8, dequantize_s8);
}

TEST_P(QuantizeKernels, NanTakesTheLowestCodeAndInfinitiesSaturate) {
  const float x[] = {std::nanf(""), HUGE_VALF, -HUGE_VALF, 1e30f, -1e30f};
  uint8_t codes[5];
  quantize_u8(x, 5, 1.0f, 100, 3, 250, codes);
  EXPECT_EQ(std::vector<int>(codes, codes + 5), (std::vector<int>{3, 250, 3, 250, 3}));
}

template <typename T, class Quantize, class Dequantize>
void expect_columns_as_scalar(const Quantize& quantize, const Dequantize& dequantize) {
  for (const int64_t columns : {1, 3, 7, 16, 63, 64, 65, 130}) {
    for (const int64_t rows : {0, 1, 2, 5, 64, 67}) {
      std::vector<float> scale(columns), inverse(columns);
      std::vector<int32_t> zero_point(columns);
      for (int64_t c = 0; c < columns; ++c) {
        scale[c] = 0.01f * static_cast<float>(c + 1);
        inverse[c] = inverse_scale(scale[c]);
        zero_point[c] = static_cast<int32_t>((c * 13) % 200 - 50);
      }
      const int64_t quant_min = std::numeric_limits<T>::min(), quant_max = std::numeric_limits<T>::max() - 1;
      const auto x = awkward_values(rows * columns, 0.3f, static_cast<uint32_t>(rows + columns));
      std::vector<T> codes(x.size() + 1, T{9}), expected_codes(x.size() + 1, T{9});
      std::vector<float> values(x.size() + 1, -5.0f), expected_values(x.size() + 1, -5.0f);
      quantize(x.data(), rows, columns, inverse.data(), zero_point.data(), quant_min, quant_max, codes.data());
      dequantize(codes.data(), rows, columns, scale.data(), zero_point.data(), values.data());
      for (int64_t i = 0; i < rows * columns; ++i) {
        const int64_t c = i % columns;
        quantize_scalar(&x[i], 1, inverse[c], zero_point[c], quant_min, quant_max, &expected_codes[i]);
        dequantize_scalar(&expected_codes[i], 1, scale[c], zero_point[c], &expected_values[i]);
      }
      ASSERT_EQ(codes, expected_codes) << rows << " x " << columns;
      ASSERT_EQ(values, expected_values) << rows << " x " << columns;
    }
  }
}

TEST_P(QuantizeKernels, ColumnsEqualScalar) {
  expect_columns_as_scalar<uint8_t>(quantize_columns_u8, dequantize_columns_u8);
  expect_columns_as_scalar<int8_t>(quantize_columns_s8, dequantize_columns_s8);
}

template <typename T, class Interleave>
void expect_interleaved(const Interleave& interleave, int64_t zero_point) {
  const int64_t lowest = std::numeric_limits<T>::min(), highest = std::numeric_limits<T>::max();
  for (const int64_t channels : {1, 3, 4, 5, 64}) {
    for (const int64_t padding : {0, 1, 3}) {
      for (const int64_t pixels : {1, 63, 200, 3001}) {
        const int64_t plane = pixels + 11, out_channels = channels + padding;
        const auto x = awkward_values(channels * plane, 0.1f, static_cast<uint32_t>(pixels));
        std::vector<T> out(pixels * out_channels + 1, T{101}), expected = out;
        interleave(x.data(), channels, plane, pixels, inverse_scale(0.1), zero_point, lowest, highest, out_channels,
                   out.data());
        for (int64_t p = 0; p < pixels; ++p) {
          for (int64_t c = 0; c < out_channels; ++c) {
            T& to = expected[p * out_channels + c];
            to = static_cast<T>(zero_point);
            if (c < channels) {
              quantize_scalar(&x[c * plane + p], 1, inverse_scale(0.1), zero_point, lowest, highest, &to);
            }
          }
        }
        ASSERT_EQ(out, expected) << channels << "+" << padding << " channels, " << pixels << " pixels";
      }
    }
  }
}

TEST_P(QuantizeKernels, InterleaveTransposesAndPads) {
  expect_interleaved<uint8_t>(quantize_interleave_u8, 128);
  expect_interleaved<int8_t>(quantize_interleave_s8, -7);
}

INSTANTIATE_TEST_SUITE_P(InstructionSets, QuantizeKernels,
                         ::testing::Values(InstructionSet{"AVX3_DL", 7}, InstructionSet{"AVX3", 8},
                                           InstructionSet{"AVX2", 9}, InstructionSet{"SSE4", 11},
                                           InstructionSet{"SSSE3", 12}, InstructionSet{"NEON", 28},
                                           InstructionSet{"EMU128", 61}, InstructionSet{"SCALAR", 62}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(QuantizeKernelTarget, NamesTheChosenInstructionSet) {
  restrict_quantize_kernel_targets(0);
  EXPECT_STRNE(quantize_kernel_target(), "");
  EXPECT_STRNE(quantize_kernel_target(), "Unknown");
}

}  // namespace
}  // namespace tsquant
