// Highway compiles this file once per instruction set.
#include "kernels/lstm_loops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/lstm_loops.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DUnits = hn::CappedTag<float, kLstmUnits>;
using VUnits = hn::Vec<DUnits>;

/// 1 / (1 + exp(-x)). Beyond +-88 exp leaves the floats, and the result is 0 or 1 all the same.
HWY_INLINE VUnits sigmoid(VUnits x) {
  const DUnits d;
  const auto one = hn::Set(d, 1.0f);
  const auto bounded = hn::Min(hn::Max(x, hn::Set(d, -88.0f)), hn::Set(d, 88.0f));
  return hn::Div(one, hn::Add(one, hn::Exp(d, hn::Neg(bounded))));
}

/// Gates of kRows rows for the units from `unit` on that one vector has.
template <int kRows>
HWY_INLINE void finish_units(const LstmRows& r, int64_t row, int64_t unit, const VUnits (&sums)[kRows][4]) {
  const DUnits d;
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
    const int64_t at = (row + i) * r.units + unit;
    const auto kept = hn::Mul(sigmoid(sums[i][1]), hn::LoadU(d, r.cell + at));
    const auto cell = hn::MulAdd(sigmoid(sums[i][0]), hn::Tanh(d, sums[i][2]), kept);
    hn::StoreU(cell, d, r.cell + at);
    hn::StoreU(hn::Mul(sigmoid(sums[i][3]), hn::Tanh(d, cell)), d, r.next + (row + i) * r.next_stride + unit);
  }
}

template <int kRows>
HWY_INLINE void step_rows(const LstmRows& r, int64_t row, int64_t unit) {
  const DUnits d;
  VUnits sums[kRows][4];
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int gate = 0; gate < 4; ++gate) {
      sums[i][gate] = hn::LoadU(d, r.gates + ((row + i) * 4 + gate) * r.units + unit);
    }
  }
  const float* weight = r.weight + unit / kLstmUnits * r.units * 4 * kLstmUnits + unit % kLstmUnits;
  const float* hidden = r.hidden + row * r.hidden_stride;
  for (int64_t k = 0; k < r.units; ++k, weight += 4 * kLstmUnits) {
    VUnits h[kRows];
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) h[i] = hn::Set(d, hidden[i * r.hidden_stride + k]);
#pragma GCC unroll 4
    for (int gate = 0; gate < 4; ++gate) {
      const auto factor = hn::LoadU(d, weight + gate * kLstmUnits);
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) sums[i][gate] = hn::MulAdd(h[i], factor, sums[i][gate]);
    }
  }
  finish_units<kRows>(r, row, unit, sums);
}

/// All rows with the weights of some units, which stay in the nearest cache.
void lstm_step_target(const LstmRows& r) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(DUnits()));
  for (int64_t unit = 0; unit < r.units; unit += lanes) {
    int64_t row = 0;
    for (; row + 3 <= r.rows; row += 3) step_rows<3>(r, row, unit);
    if (row + 2 <= r.rows) {
      step_rows<2>(r, row, unit);
    } else if (row < r.rows) {
      step_rows<1>(r, row, unit);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tsquant::kernels {
HWY_EXPORT(lstm_step_target);
void lstm_step(const LstmRows& rows) { HWY_DYNAMIC_DISPATCH(lstm_step_target)(rows); }
}  // namespace tsquant::kernels
#endif  // HWY_ONCE
