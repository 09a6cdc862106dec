// Highway compiles this file once per instruction set.
#include "kernels/recurrent_loops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/recurrent_loops.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DUnits = hn::CappedTag<float, kRecurrentUnits>;
using VUnits = hn::Vec<DUnits>;

/// exp(x) to the last digit or two. Beyond +-43 quotients of such are 0 or 1 in floats all the same, and products of
/// two stay finite. A NaN stays one, which Min and Max would not keep on every processor.
HWY_INLINE VUnits bounded_exp(VUnits x) {
  const DUnits d;
  const hn::RebindToSigned<DUnits> integers;
  const auto least = hn::Set(d, -43.0f), most = hn::Set(d, 43.0f);
  const auto bounded = hn::IfThenElse(hn::Lt(x, least), least, hn::IfThenElse(hn::Gt(x, most), most, x));
  const auto power = hn::Round(hn::Mul(bounded, hn::Set(d, 1.44269504f)));  // of 2
  auto rest = hn::NegMulAdd(power, hn::Set(d, 0.693359375f), bounded);      // ln 2 in two parts, the first one exact
  rest = hn::NegMulAdd(power, hn::Set(d, -2.12194440e-4f), rest);
  auto sum = hn::MulAdd(rest, hn::Set(d, 1.0f / 720), hn::Set(d, 1.0f / 120));
  sum = hn::MulAdd(sum, rest, hn::Set(d, 1.0f / 24));
  sum = hn::MulAdd(sum, rest, hn::Set(d, 1.0f / 6));
  sum = hn::MulAdd(sum, rest, hn::Set(d, 0.5f));
  sum = hn::MulAdd(sum, rest, hn::Set(d, 1.0f));
  sum = hn::MulAdd(sum, rest, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::ConvertTo(integers, power));
  return hn::BitCast(d, hn::Add(hn::BitCast(integers, sum), exponent));
}

/// 1 / sigmoid(x)
HWY_INLINE VUnits inverse_sigmoid(VUnits x) { return hn::Add(hn::Set(DUnits(), 1.0f), bounded_exp(hn::Neg(x))); }

/// tanh(x) / d = (exp(2x) - 1) / ((exp(2x) + 1) * d), with one division.
HWY_INLINE VUnits tanh_over(VUnits x, VUnits divisor) {
  const auto one = hn::Set(DUnits(), 1.0f);
  const auto e = bounded_exp(hn::Add(x, x));
  return hn::Div(hn::Sub(e, one), hn::Mul(hn::Add(e, one), divisor));
}

/// Compilers otherwise load a factor once per product, and the processor's loads are then what takes the time.
HWY_INLINE void keep_in_register(VUnits& value) {
#if HWY_TARGET == HWY_AVX2
  asm("" : "+x"(value.raw));
#elif HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  asm("" : "+v"(value.raw));
#else
  (void)value;
#endif
}

/// Adds the products of kRows rows with the weights of kGates gates of one vector of units. A function of its own, so
/// that all sums stay in registers.
template <int kRows, int kGates>
HWY_NOINLINE void add_products(const float* x, int64_t x_stride, int64_t inputs, const float* HWY_RESTRICT weight,
                               VUnits (&all_sums)[kRows][kGates]) {
  const DUnits d;
  VUnits sums[kRows][kGates];
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int gate = 0; gate < kGates; ++gate) sums[i][gate] = all_sums[i][gate];
  }
  for (int64_t k = 0; k < inputs; ++k, weight += kGates * kRecurrentUnits) {
    VUnits value[kRows];
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) value[i] = hn::Set(d, x[i * x_stride + k]);
#pragma GCC unroll 4
    for (int gate = 0; gate < kGates; ++gate) {
      auto factor = hn::LoadU(d, weight + gate * kRecurrentUnits);
      keep_in_register(factor);
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) sums[i][gate] = hn::MulAdd(value[i], factor, sums[i][gate]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int gate = 0; gate < kGates; ++gate) all_sums[i][gate] = sums[i][gate];
  }
}

/// Where the weights of the units from `unit` on begin.
template <int kGates>
HWY_INLINE const float* weights_of(const float* weight, int64_t inputs, int64_t unit) {
  return weight + unit / kRecurrentUnits * inputs * kGates * kRecurrentUnits + unit % kRecurrentUnits;
}

template <int kGates>
struct Products {
  const GateProducts& p;

  template <int kRows>
  HWY_INLINE void run(int64_t row, int64_t unit) const {
    const DUnits d;
    VUnits sums[kRows][kGates];
#pragma GCC unroll 4
    for (int gate = 0; gate < kGates; ++gate) {
      const auto bias = hn::LoadU(d, p.bias + gate * p.units + unit);
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) sums[i][gate] = bias;
    }
    add_products<kRows, kGates>(p.x + row * p.x_stride, p.x_stride, p.inputs,
                                weights_of<kGates>(p.weight, p.inputs, unit), sums);
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int gate = 0; gate < kGates; ++gate) {
        hn::StoreU(sums[i][gate], d, p.out + (row + i) * p.out_stride + gate * p.units + unit);
      }
    }
  }
};

/// Gates of rows that the input gave, to which those of the hidden state are added.
template <int kRows, int kGates, int kFromInput>
HWY_INLINE void load_gates(const RecurrentRows& r, int64_t row, int64_t unit, VUnits (&sums)[kRows][kGates]) {
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int gate = 0; gate < kFromInput; ++gate) {
      sums[i][gate] = hn::LoadU(DUnits(), r.gates + ((row + i) * kGates + gate) * r.units + unit);
    }
  }
}

struct LstmStep {
  const RecurrentRows& r;

  template <int kRows>
  HWY_INLINE void run(int64_t row, int64_t unit) const {
    const DUnits d;
    VUnits sums[kRows][4];
    load_gates<kRows, 4, 4>(r, row, unit, sums);
    add_products<kRows, 4>(r.hidden + row * r.units, r.units, r.units, weights_of<4>(r.weight, r.units, unit), sums);
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
      const int64_t at = (row + i) * r.units + unit;
      const auto kept = hn::Div(hn::LoadU(d, r.cell + at), inverse_sigmoid(sums[i][1]));
      const auto cell = hn::Add(kept, tanh_over(sums[i][2], inverse_sigmoid(sums[i][0])));
      hn::StoreU(cell, d, r.cell + at);
      hn::StoreU(tanh_over(cell, inverse_sigmoid(sums[i][3])), d, r.next + at);
    }
  }
};

struct GruStep {
  const RecurrentRows& r;

  template <int kRows>
  HWY_INLINE void run(int64_t row, int64_t unit) const {
    const DUnits d;
    const auto one = hn::Set(d, 1.0f);
    VUnits sums[kRows][3];
    load_gates<kRows, 3, 2>(r, row, unit, sums);
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) sums[i][2] = hn::LoadU(d, r.new_bias + unit);
    add_products<kRows, 3>(r.hidden + row * r.units, r.units, r.units, weights_of<3>(r.weight, r.units, unit), sums);
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
      const int64_t at = (row + i) * r.units + unit;
      const auto input = hn::LoadU(d, r.gates + ((row + i) * 3 + 2) * r.units + unit);
      const auto fresh = tanh_over(hn::Add(input, hn::Div(sums[i][2], inverse_sigmoid(sums[i][0]))), one);
      const auto hidden = hn::LoadU(d, r.hidden + at);
      // n + z * (h - n)
      hn::StoreU(hn::Add(fresh, hn::Div(hn::Sub(hidden, fresh), inverse_sigmoid(sums[i][1]))), d, r.next + at);
    }
  }
};

/// All rows with the weights of some units, which stay in the nearest cache.
template <class Block>
HWY_INLINE void run_blocks(const Block& block, int64_t rows, int64_t units) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(DUnits()));
  for (int64_t unit = 0; unit < units; unit += lanes) {
    int64_t row = 0;
    for (; row + 3 <= rows; row += 3) block.template run<3>(row, unit);
    if (row + 2 <= rows) {
      block.template run<2>(row, unit);
    } else if (row < rows) {
      block.template run<1>(row, unit);
    }
  }
}

void products_3_target(const GateProducts& p) { run_blocks(Products<3>{p}, p.rows, p.units); }
void products_4_target(const GateProducts& p) { run_blocks(Products<4>{p}, p.rows, p.units); }
void lstm_step_target(const RecurrentRows& r) { run_blocks(LstmStep{r}, r.rows, r.units); }
void gru_step_target(const RecurrentRows& r) { run_blocks(GruStep{r}, r.rows, r.units); }

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tsquant::kernels {
HWY_EXPORT(products_3_target);
HWY_EXPORT(products_4_target);
HWY_EXPORT(lstm_step_target);
HWY_EXPORT(gru_step_target);
void products_of_3_gates(const GateProducts& p) { HWY_DYNAMIC_DISPATCH(products_3_target)(p); }
void products_of_4_gates(const GateProducts& p) { HWY_DYNAMIC_DISPATCH(products_4_target)(p); }
void lstm_step(const RecurrentRows& r) { HWY_DYNAMIC_DISPATCH(lstm_step_target)(r); }
void gru_step(const RecurrentRows& r) { HWY_DYNAMIC_DISPATCH(gru_step_target)(r); }
}  // namespace tsquant::kernels
#endif  // HWY_ONCE
