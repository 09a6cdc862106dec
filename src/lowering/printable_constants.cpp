#include <ATen/core/symbol.h>

#include <cmath>
#include <limits>

#include "graph/node_lists.h"
#include "lowering/lowering.h"

namespace tsquant {

namespace {

/// LibTorch 1.13 writes whole numbers from here on without a point, and reads them back as integers.
constexpr double kFirst = 1e10;
/// From here on with an exponent; between 2^53 and this limit all doubles are whole.
constexpr double kLast = 1e17;

bool is_misprinted(double value) {
  return std::abs(value) >= kFirst && std::abs(value) < kLast && value == std::floor(value);
}

}  // namespace

bool make_constants_printable(Model& model) {
  bool changed = false;
  for (torch::jit::Node* node : nodes_of_kind(model.graph()->block(), {"prim::Constant"})) {
    if (!node->hasAttribute(c10::attr::value) || node->kindOf(c10::attr::value) != torch::jit::AttributeKind::f) {
      continue;
    }
    double value = node->f(c10::attr::value);
    if (!is_misprinted(value)) continue;
    // Half of a step of float32 at most, so that operators that compute in float32 see the same number.
    value = std::nextafter(value, 0);
    if (is_misprinted(value)) value = std::copysign(kLast, value);
    node->f_(c10::attr::value, value);
    changed = true;
  }
  return changed;
}

}  // namespace tsquant
