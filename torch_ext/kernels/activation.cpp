#include "kernels/activation.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>

namespace tsquant::kernels {
namespace {

/// Plain numbers under the names that the formulas use.
namespace scalars {

float add(float a, float b) { return a + b; }
float product(float a, float b) { return a * b; }
float quotient(float a, float b) { return a / b; }
float bounded(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

#define TSQUANT_INLINE inline
#include "kernels/activation_functions.inc"
#undef TSQUANT_INLINE

}  // namespace scalars
}  // namespace

const std::vector<std::string>& activation_names() {
  static const std::vector<std::string> names = {
#define TSQUANT_ACTIVATION(name, formula) #name,
#include "kernels/activations.inc"
#undef TSQUANT_ACTIVATION
  };
  return names;
}

Activation activation_named(const std::string& name) {
  const auto& names = activation_names();
  const auto found = std::find(names.begin(), names.end(), name);
  TORCH_CHECK(found != names.end(), "tsquant: there is no activation \"", name, "\"; known are ",
              fmt::format("{}", fmt::join(names, ", ")));
  return static_cast<Activation>(found - names.begin() + 1);
}

float activate(Activation activation, float x) {
  using namespace scalars;
  switch (activation) {
    case Activation::kNone:
      break;
#define TSQUANT_ACTIVATION(name, formula) \
  case Activation::name:                  \
    return formula;
#include "kernels/activations.inc"
#undef TSQUANT_ACTIVATION
  }
  return x;
}

}  // namespace tsquant::kernels
