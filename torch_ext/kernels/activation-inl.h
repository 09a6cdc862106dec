// The activations of activations.inc on vectors, for the Highway files of this folder: compiled once per instruction
// set.
#if defined(TSQUANT_ACTIVATION_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TSQUANT_ACTIVATION_INL_H
#undef TSQUANT_ACTIVATION_INL_H
#else
#define TSQUANT_ACTIVATION_INL_H
#endif

#include <type_traits>

#include "hwy/highway.h"
#include "kernels/epilogue.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// One vector of floats, with the names that the formulas use.
template <class D>
struct Floats {
  hn::Vec<D> v;
};
template <class D>
HWY_INLINE Floats<D> add(Floats<D> x, float y) {
  return {hn::Add(x.v, hn::Set(D(), y))};
}
template <class D>
HWY_INLINE Floats<D> product(Floats<D> x, Floats<D> y) {
  return {hn::Mul(x.v, y.v)};
}
/// A product with the reciprocal and its correction by fused products took as long on Zen 3.
template <class D>
HWY_INLINE Floats<D> quotient(Floats<D> x, float y) {
  return {hn::Div(x.v, hn::Set(D(), y))};
}
/// In this order a NaN stays: both return their second operand then.
template <class D>
HWY_INLINE Floats<D> bounded(Floats<D> x, float low, float high) {
  return {hn::Min(hn::Set(D(), high), hn::Max(hn::Set(D(), low), x.v))};
}

template <class D>
HWY_INLINE Floats<D> add(Floats<D> x, Floats<D> y) {
  return {hn::Add(x.v, y.v)};
}
template <class D>
HWY_INLINE Floats<D> product(Floats<D> x, float y) {
  return {hn::Mul(x.v, hn::Set(D(), y))};
}
template <class D>
HWY_INLINE Floats<D> quotient(Floats<D> x, Floats<D> y) {
  return {hn::Div(x.v, y.v)};
}

#define TSQUANT_INLINE HWY_INLINE
#include "kernels/activation_functions.inc"
#undef TSQUANT_INLINE

template <Activation A, class D>
HWY_INLINE Floats<D> activate(Floats<D> x) {
#define TSQUANT_ACTIVATION(name, formula) \
  if constexpr (A == Activation::name) return formula;
#include "kernels/activations.inc"
#undef TSQUANT_ACTIVATION
  return x;
}

/// Calls call(std::integral_constant<Activation, A>) for the activation that is given.
template <class Call>
HWY_INLINE void with_activation(Activation activation, const Call& call) {
  switch (activation) {
    case Activation::kNone:
      break;
#define TSQUANT_ACTIVATION(name, formula) \
  case Activation::name:                  \
    return call(std::integral_constant<Activation, Activation::name>());
#include "kernels/activations.inc"
#undef TSQUANT_ACTIVATION
  }
}

/// Activated results in units of the result's scale, see epilogue.h: only to be rounded. NaN and what is below the
/// lowest code are left to the conversion, which gives the lowest integer for them.
template <class D>
struct Activated {
  hn::Vec<D> inverse_scale, highest;  // copies: a store of bytes might change what references show

  HWY_INLINE explicit Activated(const Epilogue& e)
      : inverse_scale(hn::Set(D(), e.inverse_scale)), highest(hn::Set(D(), e.highest)) {}

  /// @param factor of these channels, or null
  template <Activation A>
  HWY_INLINE hn::Vec<D> of(hn::Vec<D> f, const float* factor) const {
    hn::Vec<D> y = activate<A>(Floats<D>{f}).v;
    if (factor != nullptr) y = hn::Mul(y, hn::LoadU(D(), factor));
    return hn::Min(highest, hn::Mul(y, inverse_scale));
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
