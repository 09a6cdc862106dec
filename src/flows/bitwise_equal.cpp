#include "flows/bitwise_equal.h"

#include <ATen/ATen.h>

#include <cstring>

namespace tsquant {

namespace {

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type() || a.is_quantized() != b.is_quantized())
    return false;
  if (a.is_quantized()) return same_bits(a.int_repr(), b.int_repr()) && same_bits(a.dequantize(), b.dequantize());
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

template <typename List>
bool same_elements(const List& a, const List& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!bitwise_equal(a[i], b[i])) return false;
  }
  return true;
}

}  // namespace

bool bitwise_equal(const c10::IValue& a, const c10::IValue& b) {
  if (a.isTensor() && b.isTensor()) {
    if (!a.toTensor().defined() || !b.toTensor().defined()) return a.toTensor().defined() == b.toTensor().defined();
    return same_bits(a.toTensor(), b.toTensor());
  }
  if (a.isTuple() && b.isTuple())
    return same_elements(a.toTupleRef().elements().vec(), b.toTupleRef().elements().vec());
  if (a.isList() && b.isList()) return same_elements(a.toListRef().vec(), b.toListRef().vec());
  if (a.isGenericDict() && b.isGenericDict()) {
    const auto x = a.toGenericDict(), y = b.toGenericDict();
    if (x.size() != y.size()) return false;
    for (const auto& entry : x) {
      if (!y.contains(entry.key()) || !bitwise_equal(entry.value(), y.at(entry.key()))) return false;
    }
    return true;
  }
  return a == b;
}

}  // namespace tsquant
