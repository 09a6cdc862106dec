#include "kernels/byte_loops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "support/random_cases.h"
#include "targets.h"

// Every loop against plain C++, for every instruction set, at lengths around the vector sizes, on memory that ends or
// begins at a forbidden page. The build contracts no float operations here: the baseline has no fused multiply-add.
namespace tsquant::testing {
namespace {

using kernels::Binary;

class ByteLoops : public EveryTarget {
 protected:
  std::mt19937 random{7};
};
INSTANTIATE_TEST_SUITE_P(Targets, ByteLoops, all_targets(), target_name);

std::vector<int64_t> lengths() {
  std::vector<int64_t> n(301);
  std::iota(n.begin(), n.end(), 0);
  n.push_back(4099);
  return n;
}

int32_t code(uint8_t byte, bool is_signed) { return is_signed ? static_cast<int8_t>(byte) : byte; }

uint8_t quantized(float scaled, int32_t zero_point, int32_t low, int32_t high) {
  const float rounded = std::nearbyint(scaled);
  const double q = static_cast<double>(rounded) + zero_point;
  if (!(q > low)) return static_cast<uint8_t>(low);
  return static_cast<uint8_t>(q >= high ? high : static_cast<int32_t>(q));
}

uint8_t binary_one(uint8_t a, uint8_t b, const kernels::BinaryParams& p) {
  const float x = static_cast<float>(code(a, p.is_signed) - p.zero_point_a) * p.scale_a;
  const float y = static_cast<float>(code(b, p.is_signed) - p.zero_point_b) * p.scale_b;
  const float both = p.op == Binary::kAdd ? x + y : x * y;
  return quantized(both * p.inverse_out, p.zero_point, p.low, p.high);
}

kernels::BinaryParams random_params(std::mt19937& random) {
  const float scales[] = {1e-30f, 3e-4f, 0.0173f, 0.25f, 1.0f, 7.3f, 1e20f, 3e37f};
  kernels::BinaryParams p;
  p.op = random() % 2 ? Binary::kAdd : Binary::kMul;
  p.is_signed = random() % 2;
  // Half of the cases are ordinary: sums in the range of the result.
  const bool ordinary = random() % 2;
  p.scale_a = ordinary ? 0.01f + 1e-4f * static_cast<float>(random() % 100) : scales[random() % 8];
  p.scale_b = ordinary ? 0.02f + 1e-4f * static_cast<float>(random() % 100) : scales[random() % 8];
  p.inverse_out = 1.0f / (ordinary ? 0.03f + 1e-4f * static_cast<float>(random() % 100) : scales[random() % 8]);
  const int32_t lowest = p.is_signed ? -128 : 0;
  p.zero_point_a = lowest + static_cast<int32_t>(random() % 256);
  p.zero_point_b = lowest + static_cast<int32_t>(random() % 256);
  p.zero_point = lowest + static_cast<int32_t>(random() % 256);
  p.low = random() % 3 == 0 ? p.zero_point : lowest;
  p.high = lowest + 255;
  return p;
}

TEST_P(ByteLoops, SumsAndProductsOfEveryLength) {
  for (const int64_t n : lengths()) {
    for (int repeat = 0; repeat < 4; ++repeat) {
      const auto p = random_params(random);
      const bool at_end = random() % 2;
      const GuardedBytes a(random_bytes(n, random), at_end), b(random_bytes(n, random), at_end), out(n, at_end);
      kernels::BinaryRows r;
      r.a = a.data();
      r.b = b.data();
      r.out = out.data();
      r.n = n;
      r.b_repeats = repeat % 2 == 1 && n > 0;
      kernels::binary_codes(r, p);
      for (int64_t i = 0; i < n; ++i) {
        const uint8_t want = binary_one(a.data()[i], b.data()[r.b_repeats ? 0 : i], p);
        ASSERT_EQ(out.data()[i], want) << n << " at " << i << (p.op == Binary::kAdd ? " add" : " mul");
      }
    }
  }
}

TEST_P(ByteLoops, SumsAndProductsOfAllPairsOfCodes) {
  std::vector<uint8_t> a(65536), b(65536), out(65536);
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<uint8_t>(i / 256);
    b[i] = static_cast<uint8_t>(i);
  }
  for (int repeat = 0; repeat < random_cases(40); ++repeat) {
    const auto p = random_params(random);
    kernels::BinaryRows r;
    r.a = a.data();
    r.b = b.data();
    r.out = out.data();
    r.n = 65536;
    kernels::binary_codes(r, p);
    size_t i = 0;
    while (i < a.size() && out[i] == binary_one(a[i], b[i], p)) ++i;
    ASSERT_EQ(i, a.size()) << repeat;
  }
}

TEST_P(ByteLoops, RowsAreWalkedByTheirOwnStrides) {
  const auto a = random_bytes(7 * 40, random), b = random_bytes(40, random);
  const auto p = random_params(random);
  std::vector<uint8_t> out(7 * 50, 99);
  kernels::BinaryRows r;
  r.a = a.data();
  r.b = b.data();
  r.out = out.data();
  r.a_row = 40;
  r.out_row = 50;
  r.rows = 7;
  r.n = 37;
  kernels::binary_codes(r, p);
  for (int row = 0; row < 7; ++row) {
    for (int i = 0; i < 50; ++i) {
      ASSERT_EQ(out[row * 50 + i], i < 37 ? binary_one(a[row * 40 + i], b[i], p) : 99) << row << " " << i;
    }
  }
}

TEST_P(ByteLoops, LookupOfEveryLengthAndByte) {
  for (const int64_t n : lengths()) {
    const auto table = random_bytes(256, random);
    const bool at_end = random() % 2;
    auto bytes = random_bytes(2 * n, random);
    for (int64_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(i);
    const GuardedBytes x(bytes, at_end), out(2 * n, at_end);
    kernels::lookup_bytes(x.data(), n, 2, n, table.data(), out.data(), n);
    for (int64_t i = 0; i < 2 * n; ++i) ASSERT_EQ(out.data()[i], table[x.data()[i]]) << n << " at " << i;
  }
}

struct Rows {
  std::vector<std::unique_ptr<GuardedBytes>> memory;
  std::vector<const uint8_t*> pointers;
};

Rows random_rows(int64_t count, int64_t n, std::mt19937& random) {
  Rows rows;
  for (int64_t k = 0; k < count; ++k) {
    rows.memory.push_back(std::make_unique<GuardedBytes>(random_bytes(n, random), random() % 2));
    rows.pointers.push_back(rows.memory.back()->data());
  }
  return rows;
}

TEST_P(ByteLoops, MaximaOfRows) {
  for (const int64_t n : lengths()) {
    const bool is_signed = n % 2;
    const int64_t count = 1 + static_cast<int64_t>(random() % 12);
    const auto rows = random_rows(count, n, random);
    const GuardedBytes out(n, random() % 2);
    kernels::max_of_rows(rows.pointers.data(), count, n, is_signed, out.data());
    for (int64_t i = 0; i < n; ++i) {
      int32_t most = -1000;
      for (const uint8_t* row : rows.pointers) most = std::max(most, code(row[i], is_signed));
      ASSERT_EQ(out.data()[i], static_cast<uint8_t>(most)) << n << " at " << i;
    }
  }
}

TEST_P(ByteLoops, AveragesAddInTheOrderOfTheRows) {
  for (const int64_t n : lengths()) {
    const int64_t count = static_cast<int64_t>(random() % 12);
    const auto b = random_params(random);
    kernels::AverageParams p;
    p.is_signed = b.is_signed;
    p.scale = b.scale_a;
    p.inverse_out = b.inverse_out;
    p.divisions = 1 + static_cast<int>(random() % 3);
    for (float& divisor : p.divisor) divisor = static_cast<float>(1 + random() % 20);
    p.in_zero_point = b.zero_point_a;
    p.zero_point = b.zero_point;
    p.low = b.low;
    p.high = b.high;
    const auto rows = random_rows(count, n, random);
    const GuardedBytes out(n, random() % 2);
    kernels::average_of_rows(rows.pointers.data(), count, n, p, out.data());
    for (int64_t i = 0; i < n; ++i) {
      float sum = 0;
      for (const uint8_t* row : rows.pointers) {
        sum = sum + static_cast<float>(code(row[i], p.is_signed) - p.in_zero_point) * p.scale;
      }
      for (int k = 0; k < p.divisions; ++k) sum = sum / p.divisor[k];
      const uint8_t want = quantized(sum * p.inverse_out, p.zero_point, p.low, p.high);
      ASSERT_EQ(out.data()[i], want) << n << " at " << i;
    }
  }
}

TEST_P(ByteLoops, SumsOfColumnsAndOfAll) {
  for (const int64_t n : lengths()) {
    for (const bool is_signed : {false, true}) {
      const int64_t rows = n > 300 ? 3 : n % 5 == 0 ? 300 : 1 + n % 9;
      auto bytes = random_bytes(rows * n, random);
      // The extremes of every type, which overflow 16 bits first.
      if (n % 3 == 0) std::fill(bytes.begin(), bytes.end(), is_signed ? 0x80 : 0xff);
      const GuardedBytes x(bytes, random() % 2);
      std::vector<int32_t> sums(static_cast<size_t>(n), 5), want(static_cast<size_t>(n), 5);
      int64_t total = 0;
      for (int64_t i = 0; i < rows * n; ++i) {
        want[static_cast<size_t>(i % n)] += code(bytes[static_cast<size_t>(i)], is_signed);
        total += code(bytes[static_cast<size_t>(i)], is_signed);
      }
      kernels::add_rows(x.data(), n, rows, n, is_signed, sums.data());
      ASSERT_EQ(sums, want) << n;
      ASSERT_EQ(kernels::sum_codes(x.data(), rows * n, is_signed), total) << n;
    }
  }
}

}  // namespace
}  // namespace tsquant::testing
