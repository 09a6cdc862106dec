#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <string>
#include <utility>

namespace tsquant::testing {

/// Runs quantized_decomposed::<name> as the interpreter does: through the dispatcher, with every argument of the
/// schema.
template <class... Args>
torch::jit::Stack call(const std::string& name, Args&&... args) {
  const size_t dot = name.find('.');
  const std::string overload = dot == std::string::npos ? "" : name.substr(dot + 1);
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(
      ("quantized_decomposed::" + name.substr(0, dot)).c_str(), overload.c_str());
  torch::jit::Stack stack{c10::IValue(std::forward<Args>(args))...};
  op.callBoxed(&stack);
  return stack;
}

template <class... Args>
at::Tensor call_tensor(const std::string& name, Args&&... args) {
  return call(name, std::forward<Args>(args)...).at(0).toTensor();
}

/// Equal shape, dtype and bits; NaN counts as equal to NaN.
inline bool identical(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() &&
         (a.eq(b) | (a.ne(a) & b.ne(b))).all().item<bool>();
}

/// True when `body` throws an error whose text contains `text`.
template <class Body>
bool fails_with(const Body& body, const std::string& text) {
  try {
    body();
  } catch (const c10::Error& error) {
    return std::string(error.what_without_backtrace()).find(text) != std::string::npos;
  }
  return false;
}

inline const c10::IValue none() { return c10::IValue(); }

}  // namespace tsquant::testing
