// Highway compiles this file once per instruction set.
#include <algorithm>
#include <cstring>

#include "kernels/compressed_dot.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/compressed_dot_loops.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/highway.h"
#include "kernels/compressed_sources-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128  // which compilers call vectors differs

/// Numbers of the kBlocks blocks of a step, each in the lanes of its codes.
template <int kBlocks>
HWY_INLINE VFloat of_blocks(const float* values, int part) {
  const DFloat d;
  const DByte d8;
  if constexpr (kBlocks == 1) {
    return hn::Set(d, values[0]);
  } else if constexpr (kBlocks == 2) {
    if constexpr (kParts == 2) return hn::Set(d, values[part]);
    alignas(32) static constexpr uint8_t kHalves[32] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3,
                                                        4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7};
    uint64_t both = 0;
    std::memcpy(&both, values, sizeof(both));
    const auto pairs = hn::BitCast(d8, hn::Set(hn::Repartition<uint64_t, DFloat>(), both));
    return hn::BitCast(d, hn::TableLookupBytes(pairs, hn::Load(d8, kHalves)));
  } else {
    alignas(32) static constexpr uint8_t kPairs[32] = {0, 1, 2,  3,  0, 1, 2,  3,  4,  5,  6,  7,  4,  5,  6,  7,
                                                       8, 9, 10, 11, 8, 9, 10, 11, 12, 13, 14, 15, 12, 13, 14, 15};
    const auto all = hn::BitCast(d8, hn::LoadDup128(d, values));
    return hn::BitCast(d, hn::TableLookupBytes(all, hn::Load(d8, kPairs + 16 * part)));
  }
}

template <class V>
HWY_INLINE V sum_of_halves(const V (&total)[2]) {
  return hn::Add(total[0], total[1]);
}
template <class V>
HWY_INLINE auto sum_of_halves(const V (&total)[1]) {
  return hn::Add(hn::LowerHalf(total[0]), hn::UpperHalf(hn::Half<hn::DFromV<V>>(), total[0]));
}

HWY_INLINE float sum_of(const VFloat (&total)[kParts]) {
  auto sum = sum_of_halves(total);
  sum = hn::Add(sum, hn::Shuffle1032(sum));
  return hn::GetLane(hn::Add(sum, hn::Shuffle2301(sum)));
}

/// One step of one part: products with kInputs rows go into their totals.
template <class Source, int kInputs>
HWY_INLINE void add_step(Source& source, VFloat scale, VFloat zero, int part, const float* x, int64_t stride,
                         VFloat (&total)[kInputs][kParts]) {
  const DFloat d;
  VFloat sum[kInputs][2];
#pragma GCC unroll 4
  for (int r = 0; r < kInputs; ++r) {
    sum[r][0] = sum[r][1] = hn::Zero(d);
    if constexpr (Source::kZeros) {
      sum[r][0] = hn::Mul(zero, hn::LoadU(d, x + r * stride + 8 * Source::kFields + kLanes * part));
    }
  }
#pragma GCC unroll 16
  for (int f = 0; f < Source::kFields; ++f) {
    const VFloat level = source.vector(f);
#pragma GCC unroll 4
    for (int r = 0; r < kInputs; ++r) {
      sum[r][f % 2] = hn::MulAdd(hn::LoadU(d, x + r * stride + 8 * f + kLanes * part), level, sum[r][f % 2]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kInputs; ++r) {
    total[r][part] = hn::MulAdd(hn::Add(sum[r][0], sum[r][1]), scale, total[r][part]);
  }
}

/// Bytes that memory is asked for before they are needed.
constexpr int64_t kAhead = 1024;

/// Products of all rows with kInputs rows of inputs.
template <class Source, int kInputs>
HWY_NOINLINE void dot(const DotFormat& format, const DotRows& rows, const float* x, int64_t stride, float* sums,
                      int64_t sum_stride) {
  constexpr int kBlocks = Source::kBlocks;
  constexpr int64_t kFloats = 8 * Source::kFields + (Source::kZeros ? 8 : 0);
  const int64_t steps = rows.n / (8 * Source::kFields);
  const int64_t scale_step = rows.scales.per_row ? 0 : kBlocks, zero_step = rows.zeros.per_row ? 0 : kBlocks;
  const int64_t bytes = rows.stride / steps;
  Source source(format, rows.n);
  for (int64_t row = 0; row < rows.count; ++row) {
    const uint8_t* codes = rows.codes + row * rows.stride;
    const float* scales = rows.scales.values + row * rows.scales.row_stride;
    const float* zeros = rows.zeros.values + row * rows.zeros.row_stride;
    const float* inputs = x;
    VFloat total[kInputs][kParts];
#pragma GCC unroll 4
    for (int r = 0; r < kInputs; ++r) {
      for (int part = 0; part < kParts; ++part) total[r][part] = hn::Zero(DFloat());
    }
    for (int64_t step = 0; step < steps; ++step, inputs += kFloats) {
      // Processors foresee what follows up to the end of a page of memory, not the page behind it.
      __builtin_prefetch(codes + step * bytes + kAhead);
#pragma GCC unroll 2
      for (int part = 0; part < kParts; ++part) {
        source.start(codes, step, part);
        VFloat zero = hn::Zero(DFloat());
        if constexpr (Source::kZeros) zero = of_blocks<kBlocks>(zeros + step * zero_step, part);
        const VFloat scale = of_blocks<kBlocks>(scales + step * scale_step, part);
        add_step<Source, kInputs>(source, scale, zero, part, inputs, stride, total);
      }
    }
    for (int r = 0; r < kInputs; ++r) sums[row * sum_stride + r] = sum_of(total[r]);
  }
}

template <class Source>
void dot_source(const DotFormat& format, const DotRows& rows, const float* x, int64_t stride, int64_t inputs,
                float* sums) {
  const int64_t all = inputs;
  for (; inputs >= 4; inputs -= 4, x += 4 * stride, sums += 4) dot<Source, 4>(format, rows, x, stride, sums, all);
  for (; inputs >= 2; inputs -= 2, x += 2 * stride, sums += 2) dot<Source, 2>(format, rows, x, stride, sums, all);
  if (inputs > 0) dot<Source, 1>(format, rows, x, stride, sums, all);
}

void dot_target(const DotFormat& format, const DotRows& rows, const float* x, int64_t stride, int64_t inputs,
                float* sums) {
  const auto with = [&](auto* source) {
    dot_source<std::remove_pointer_t<decltype(source)>>(format, rows, x, stride, inputs, sums);
  };
  switch (format.form()) {
    case DotForm::kFields:
      if (format.bits() == 2) return with(static_cast<TwoBitFields*>(nullptr));
      if (format.bits() == 3) return with(static_cast<ThreeBitFields*>(nullptr));
      if (format.bits() == 4) return with(static_cast<HalfByteFields*>(nullptr));
      if (format.kind() == LevelKind::kSigned) return with(static_cast<ByteFields<true>*>(nullptr));
      return with(static_cast<ByteFields<false>*>(nullptr));
    case DotForm::kIntegerTable:
      return with(static_cast<TableFields*>(nullptr));
    case DotForm::kShortTable:
      return with(static_cast<FloatTable<true>*>(nullptr));
    case DotForm::kLongTable:
      return with(static_cast<FloatTable<false>*>(nullptr));
    case DotForm::kBytes:
      if (format.kind() == LevelKind::kE4M3) return with(static_cast<ByteLevels<LevelKind::kE4M3>*>(nullptr));
      if (format.kind() == LevelKind::kE5M2) return with(static_cast<ByteLevels<LevelKind::kE5M2>*>(nullptr));
      return with(static_cast<ByteLevels<LevelKind::kTable256>*>(nullptr));
    default:
      return with(static_cast<ValueSource*>(nullptr));
  }
}

#else

/// What the code at this place of a row is as a factor of arranged inputs.
float level_of(const DotFormat& format, const DotRows& rows, const uint8_t* codes, int64_t i) {
  if (format.form() == DotForm::kValues) return reinterpret_cast<const float*>(codes)[i];
  int code = 0;
  if (format.bits() == 8) {
    code = codes[i] ^ (format.form() == DotForm::kFields && format.kind() == LevelKind::kSigned ? 128 : 0);
  } else if (format.bits() == 4) {
    code = codes[i / 2] >> (i % 2 * 4) & 15;
  } else {
    code = codes[i / 4] >> (i % 4 * 2) & 3;
    if (format.bits() == 3) code += (codes[rows.n / 4 + i / 8] >> (i % 8) & 1) << 2;
  }
  if (format.form() == DotForm::kFields) return static_cast<float>(code);
  return format.form() == DotForm::kIntegerTable ? static_cast<float>(format.plane(0)[code]) : format.table()[code];
}

/// The same sums in the same order, element by element.
float dot_plain(const DotFormat& format, const DotRows& rows, int64_t row, const float* x) {
  const uint8_t* codes = rows.codes + row * rows.stride;
  const auto of_block = [&](const BlockValues& b, int64_t i) {
    return b.values[row * b.row_stride + (b.per_row ? 0 : i / kCodeBlock)];
  };
  const int64_t step = format.step(), steps = rows.n / step;
  float total[8] = {};
  for (int64_t i = 0; i < steps; ++i, x += format.arranged_step()) {
    for (int lane = 0; lane < 8; ++lane) {
      const int64_t first = i * step + format.element_at(lane);
      float sum[2] = {};
      if (format.has_zeros()) sum[0] = of_block(rows.zeros, first) * x[step + lane];
      for (int position = lane; position < step; position += 8) {
        const float level = level_of(format, rows, codes, i * step + format.element_at(position));
        float& s = sum[position / 8 % 2];
        s = x[position] * (level * (format.unit() / format.factor_at(position))) + s;
      }
      total[lane] = (sum[0] + sum[1]) * of_block(rows.scales, first) + total[lane];
    }
  }
  for (int half = 4; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) total[i] += total[i + half];
  }
  return total[0];
}

void dot_target(const DotFormat& format, const DotRows& rows, const float* x, int64_t stride, int64_t inputs,
                float* sums) {
  for (int64_t row = 0; row < rows.count; ++row) {
    for (int64_t r = 0; r < inputs; ++r) sums[row * inputs + r] = dot_plain(format, rows, row, x + r * stride);
  }
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace tsquant::kernels {

HWY_EXPORT(dot_target);

void dot_rows(const DotFormat& format, const DotRows& rows, const float* x, int64_t stride, int64_t inputs,
              float* sums) {
  HWY_DYNAMIC_DISPATCH(dot_target)(format, rows, x, stride, inputs, sums);
}

}  // namespace tsquant::kernels
#endif  // HWY_ONCE
