// Registers quantized_decomposed::* with PyTorch 2's schemas.
//
// Another library may have brought the same operators (PyTorch's Python package from 2.0 on, executorch, ...). An
// operator that is already there is left alone: its owner defines and computes it. TORCH_LIBRARY would fail there, so
// the registrations are made one by one.
#include "ops/quantized_decomposed.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <string>
#include <utility>

#include "ops/decomposed_checks.h"

namespace tsquant::decomposed {
namespace {

constexpr const char* kNamespace = "quantized_decomposed";

class Registrar {
 public:
  /// Defines an operator unless it exists; then the kernel() calls that follow are skipped too.
  Registrar& op(const std::string& schema) {
    name_ = schema.substr(0, schema.find('('));
    const size_t dot = name_.find('.');
    const std::string overload = dot == std::string::npos ? "" : name_.substr(dot + 1);
    const std::string qualified = std::string(kNamespace) + "::" + name_.substr(0, dot);
    ours_ = !c10::Dispatcher::singleton().findSchema({qualified, overload}).has_value();
    if (ours_) library_.def(schema.c_str());
    return *this;
  }

  template <class Function>
  Registrar& kernel(c10::DispatchKey key, Function* function) {
    if (ours_) library_.impl(name_.c_str(), torch::dispatch(key, function));
    return *this;
  }

  template <class Function>
  Registrar& cpu(Function* function) {
    return kernel(c10::DispatchKey::CPU, function);
  }
  template <class Function>
  Registrar& other(Function* function) {
    return kernel(c10::DispatchKey::CompositeExplicitAutograd, function);
  }
  template <class Function>
  Registrar& meta(Function* function) {
    // LibTorch 1.13 passes no operator through this key by default, so a meta tensor would not reach its kernel.
    if (ours_) {
      library_.impl(name_.c_str(),
                    torch::dispatch(c10::DispatchKey::AutogradMeta, torch::CppFunction::makeFallthrough()));
    }
    return kernel(c10::DispatchKey::Meta, function);
  }

 private:
  torch::Library library_{torch::Library::FRAGMENT, kNamespace, c10::nullopt, __FILE__, __LINE__};
  std::string name_;
  bool ours_ = false;
};

// The overloads with tensors for scalars read them and call the scalar kernel.
template <auto Kernel>
Tensor quantize_tensor(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t quant_min,
                       int64_t quant_max, ScalarType dtype) {
  check_one_element(zero_point, "zero_point");
  check_one_element(scale, "scale");
  return Kernel(input, scale.item<double>(), zero_point.item<int64_t>(), quant_min, quant_max, dtype);
}

template <auto Kernel>
Tensor quantize_tensor2(const Tensor& input, const Tensor& scale, const Tensor& zero_point, const Tensor& quant_min,
                        const Tensor& quant_max, ScalarType dtype) {
  check_one_element(quant_min, "quant_min");
  check_one_element(quant_max, "quant_max");
  return quantize_tensor<Kernel>(input, scale, zero_point, quant_min.item<int64_t>(), quant_max.item<int64_t>(), dtype);
}

template <auto Kernel>
Tensor dequantize_tensor(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t quant_min,
                         int64_t quant_max, ScalarType dtype, OptionalDtype out_dtype) {
  check_one_element(zero_point, "zero_point");
  check_one_element(scale, "scale");
  return Kernel(input, scale.item<double>(), zero_point.item<int64_t>(), quant_min, quant_max, dtype, out_dtype);
}

template <auto Kernel>
Tensor dequantize_tensor2(const Tensor& input, const Tensor& scale, const Tensor& zero_point, const Tensor& quant_min,
                          const Tensor& quant_max, ScalarType dtype, OptionalDtype out_dtype) {
  check_one_element(quant_min, "quant_min");
  check_one_element(quant_max, "quant_max");
  return dequantize_tensor<Kernel>(input, scale, zero_point, quant_min.item<int64_t>(), quant_max.item<int64_t>(),
                                   dtype, out_dtype);
}

void register_per_tensor(Registrar& r) {
  r.op("quantize_per_tensor(Tensor input, float scale, int zero_point, int quant_min, int quant_max, "
       "ScalarType dtype) -> Tensor")
      .cpu(&cpu::quantize_per_tensor)
      .other(&composed::quantize_per_tensor)
      .meta(&meta::quantize_per_tensor);
  r.op("quantize_per_tensor.tensor(Tensor input, Tensor scale, Tensor zero_point, int quant_min, int quant_max, "
       "ScalarType dtype) -> Tensor")
      .cpu(&quantize_tensor<&cpu::quantize_per_tensor>)
      .other(&quantize_tensor<&composed::quantize_per_tensor>)
      .meta(&meta::quantize_per_tensor_tensor);
  r.op("quantize_per_tensor.tensor2(Tensor input, Tensor scale, Tensor zero_point, Tensor quant_min, "
       "Tensor quant_max, ScalarType dtype) -> Tensor")
      .cpu(&quantize_tensor2<&cpu::quantize_per_tensor>)
      .other(&quantize_tensor2<&composed::quantize_per_tensor>)
      .meta(&meta::quantize_per_tensor_tensor2);
  r.op("dequantize_per_tensor(Tensor input, float scale, int zero_point, int quant_min, int quant_max, "
       "ScalarType dtype, *, ScalarType? out_dtype=None) -> Tensor")
      .cpu(&cpu::dequantize_per_tensor)
      .other(&composed::dequantize_per_tensor)
      .meta(&meta::dequantize_per_tensor);
  r.op("dequantize_per_tensor.tensor(Tensor input, Tensor scale, Tensor zero_point, int quant_min, int quant_max, "
       "ScalarType dtype, *, ScalarType? out_dtype=None) -> Tensor")
      .cpu(&dequantize_tensor<&cpu::dequantize_per_tensor>)
      .other(&dequantize_tensor<&composed::dequantize_per_tensor>)
      .meta(&meta::dequantize_per_tensor_tensor);
  r.op("dequantize_per_tensor.tensor2(Tensor input, Tensor scale, Tensor zero_point, Tensor quant_min, "
       "Tensor quant_max, ScalarType dtype, *, ScalarType? out_dtype=None) -> Tensor")
      .cpu(&dequantize_tensor2<&cpu::dequantize_per_tensor>)
      .other(&dequantize_tensor2<&composed::dequantize_per_tensor>)
      .meta(&meta::dequantize_per_tensor_tensor2);
}

void register_per_channel(Registrar& r) {
  r.op("quantize_per_channel(Tensor input, Tensor scales, Tensor zero_points, int axis, int quant_min, "
       "int quant_max, ScalarType dtype) -> Tensor")
      .cpu(&cpu::quantize_per_channel)
      .other(&composed::quantize_per_channel)
      .meta(&meta::quantize_per_channel);
  r.op("dequantize_per_channel(Tensor input, Tensor scales, Tensor? zero_points, int axis, int quant_min, "
       "int quant_max, ScalarType dtype, *, ScalarType? out_dtype=None) -> Tensor")
      .cpu(&cpu::dequantize_per_channel)
      .other(&composed::dequantize_per_channel)
      .meta(&meta::dequantize_per_channel);
  r.op("fake_quant_per_channel(Tensor input, Tensor scales, Tensor zero_points, int axis, int quant_min, "
       "int quant_max) -> Tensor")
      .other(&composed::fake_quant_per_channel)
      .kernel(c10::DispatchKey::Autograd, &fake_quant_per_channel_autograd)
      .meta(&meta::fake_quant_per_channel);
}

void register_qparams(Registrar& r) {
  r.op("choose_qparams.tensor(Tensor input, int quant_min, int quant_max, float eps, ScalarType dtype) -> "
       "(Tensor, Tensor)")
      .other(&composed::choose_qparams)
      .meta(&meta::choose_qparams);
  r.op("choose_qparams_symmetric.tensor(Tensor input, int quant_min, int quant_max, float eps, ScalarType dtype) -> "
       "(Tensor, Tensor)")
      .other(&composed::choose_qparams_symmetric)
      .meta(&meta::choose_qparams);
  r.op("choose_qparams_per_token(Tensor input, ScalarType dtype) -> (Tensor, Tensor)")
      .other(&composed::choose_qparams_per_token)
      .meta(&meta::choose_qparams_per_token);
  r.op("_choose_qparams_per_token_asymmetric_impl(Tensor input, ScalarType dtype) -> (Tensor, Tensor)")
      .kernel(c10::DispatchKey::CompositeImplicitAutograd, &composed::choose_qparams_per_token_asymmetric);
  r.op("choose_qparams_per_token_asymmetric(Tensor input, ScalarType dtype) -> (Tensor, Tensor)")
      .other(&composed::choose_qparams_per_token_asymmetric)
      .meta(&meta::choose_qparams_per_token_asymmetric);
}

void register_blocks(Registrar& r) {
  r.op("quantize_per_token(Tensor input, Tensor scales, Tensor zero_points, int quant_min, int quant_max, "
       "ScalarType dtype) -> Tensor")
      .other(&composed::quantize_per_token)
      .meta(&meta::quantize_per_token);
  r.op("dequantize_per_token(Tensor input, Tensor scales, Tensor zero_points, int quant_min, int quant_max, "
       "ScalarType dtype, ScalarType output_dtype) -> Tensor")
      .other(&composed::dequantize_per_token)
      .meta(&meta::dequantize_per_token);
  r.op("quantize_per_channel_group(Tensor input, Tensor scales, Tensor zero_points, int quant_min, int quant_max, "
       "ScalarType dtype, int group_size) -> Tensor")
      .other(&composed::quantize_per_channel_group)
      .meta(&meta::quantize_per_channel_group);
  r.op("dequantize_per_channel_group(Tensor input, Tensor scales, Tensor? zero_points, int quant_min, int quant_max, "
       "ScalarType dtype, int group_size, ScalarType output_dtype) -> Tensor")
      .other(&composed::dequantize_per_channel_group)
      .meta(&meta::dequantize_per_channel_group);
  r.op("convert_element_type.no_fuse(Tensor input, ScalarType dtype) -> Tensor")
      .other(&composed::convert_element_type)
      .meta(&meta::convert_element_type);
}

/// Lives as long as the library is loaded: its destructor takes the operators away again.
struct Registrations : Registrar {
  Registrations() {
    register_per_tensor(*this);
    register_per_channel(*this);
    register_qparams(*this);
    register_blocks(*this);
  }
};
const Registrations registrations;

}  // namespace
}  // namespace tsquant::decomposed
