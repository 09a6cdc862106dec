#include "passes/compare_outputs.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <sstream>

namespace tsquant {

namespace {

class Comparison {
 public:
  OutputDifference result;

  void compare(const c10::IValue& a, const c10::IValue& b, const std::string& place) {
    if (a.tagKind() != b.tagKind()) {
      report(place, fmt::format("a {} became a {}", a.tagKind(), b.tagKind()));
    } else if (a.isTensor()) {
      compare_tensors(a.toTensor(), b.toTensor(), place);
    } else if (a.isTuple()) {
      compare_sequences(a.toTupleRef().elements().vec(), b.toTupleRef().elements().vec(), place);
    } else if (a.isList()) {
      compare_sequences(a.toListRef(), b.toListRef(), place);
    } else if (a.isGenericDict()) {
      compare_dicts(a.toGenericDict(), b.toGenericDict(), place);
    } else if (a.isDouble()) {
      compare_tensors(at::scalar_tensor(a.toDouble(), at::kDouble), at::scalar_tensor(b.toDouble(), at::kDouble),
                      place);
    } else if ((a.isInt() || a.isBool() || a.isString()) && a != b) {
      report(place, "the value differs");
    }
  }

 private:
  void report(const std::string& place, const std::string& what) {
    if (result.mismatch.empty()) result.mismatch = place + ": " + what;
  }

  template <typename Sequence>
  void compare_sequences(const Sequence& a, const Sequence& b, const std::string& place) {
    if (a.size() != b.size()) return report(place, fmt::format("{} elements became {}", a.size(), b.size()));
    for (size_t i = 0; i < a.size(); ++i) compare(a[i], b[i], fmt::format("{}[{}]", place, i));
  }

  void compare_dicts(const c10::Dict<c10::IValue, c10::IValue>& a, const c10::Dict<c10::IValue, c10::IValue>& b,
                     const std::string& place) {
    if (a.size() != b.size()) return report(place, fmt::format("{} entries became {}", a.size(), b.size()));
    for (const auto& entry : a) {
      std::ostringstream key;
      key << entry.key();
      const auto other = b.find(entry.key());
      if (other == b.end()) return report(place, "key " + key.str() + " is missing");
      compare(entry.value(), other->value(), place + "[" + key.str() + "]");
    }
  }

  void compare_tensors(const at::Tensor& a, const at::Tensor& b, const std::string& place) {
    if (a.defined() != b.defined()) return report(place, "a tensor is missing");
    if (!a.defined()) return;
    if (a.sizes() != b.sizes())
      return report(place,
                    fmt::format("shape [{}] became [{}]", fmt::join(a.sizes(), ", "), fmt::join(b.sizes(), ", ")));
    if (a.scalar_type() != b.scalar_type()) {
      return report(place, fmt::format("{} became {}", c10::toString(a.scalar_type()), c10::toString(b.scalar_type())));
    }
    if (!a.is_floating_point()) {
      if (!at::equal(a, b)) report(place, "values differ");
      return;
    }
    const auto x = a.to(at::kDouble), y = b.to(at::kDouble);
    const auto finite = at::isfinite(x);
    if (!at::equal(finite, at::isfinite(y)) || !at::equal(at::isnan(x), at::isnan(y))) {
      return report(place, "NaN or infinity in another place");
    }
    const auto zero = at::zeros({}, at::kDouble);
    const double largest = x.numel() ? at::where(finite, x, zero).abs().max().item<double>() : 0.0;
    const double apart = x.numel() ? at::where(finite, x - y, zero).abs().max().item<double>() : 0.0;
    const double relative = apart == 0.0 ? 0.0 : apart / std::max(largest, 1e-30);
    result.relative = std::max(result.relative, relative);
  }
};

}  // namespace

OutputDifference compare_outputs(const c10::IValue& expected, const c10::IValue& actual) {
  Comparison comparison;
  comparison.compare(expected, actual, "output");
  return comparison.result;
}

}  // namespace tsquant
