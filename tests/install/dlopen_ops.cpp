// A host that links LibTorch alone. It owns one of the operators already, loads the library by name, and checks that
// its own operator is left alone and that the others arrive and compute.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <dlfcn.h>
#include <torch/library.h>

#include <cstdio>

namespace {

at::Tensor own_quantize(const at::Tensor& input, double, int64_t, int64_t, int64_t, at::ScalarType dtype) {
  return at::full(input.sizes(), 42, input.options().dtype(dtype));
}

c10::OperatorHandle find(const char* name) { return c10::Dispatcher::singleton().findSchemaOrThrow(name, ""); }

bool expect(bool condition, const char* what) {
  if (!condition) std::fprintf(stderr, "failed: %s\n", what);
  return condition;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: dlopen_ops LIBRARY\n"), 2;
  torch::Library own(torch::Library::DEF, "quantized_decomposed", c10::nullopt, __FILE__, __LINE__);
  own.def(
      "quantize_per_tensor(Tensor input, float scale, int zero_point, int quant_min, int quant_max, "
      "ScalarType dtype) -> Tensor");
  own.impl("quantize_per_tensor", torch::dispatch(c10::DispatchKey::CompositeExplicitAutograd, &own_quantize));

  if (dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) == nullptr) return std::fprintf(stderr, "%s\n", dlerror()), 1;
  // Loading twice is one library.
  if (dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL) == nullptr) return std::fprintf(stderr, "%s\n", dlerror()), 1;

  const at::Tensor x = at::tensor({-1.0f, 0.0f, 1.5f});
  torch::jit::Stack own_stack{x, 0.5, 0, -128, 127, at::kChar};
  find("quantized_decomposed::quantize_per_tensor").callBoxed(&own_stack);
  const at::Tensor q = at::tensor({-2, 0, 3}, at::kChar);
  torch::jit::Stack stack{q, 0.5, 0, -128, 127, at::kChar, c10::IValue()};
  find("quantized_decomposed::dequantize_per_tensor").callBoxed(&stack);
  const bool kept = expect(own_stack[0].toTensor().eq(42).all().item<bool>(), "the host's operator is left alone");
  const bool computed = expect(stack[0].toTensor().equal(x), "an operator of the library computes");
  return kept && computed ? 0 : 1;
}
