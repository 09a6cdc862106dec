// Uses the operator library alone.
#include <ATen/core/dispatch/Dispatcher.h>

#include <iostream>

int main() {
  const auto op = c10::Dispatcher::singleton().findSchema({"quantized_decomposed::quantize_per_tensor", ""});
  std::cout << (op ? "operators registered\n" : "operators missing\n");
  return op ? 0 : 1;
}
