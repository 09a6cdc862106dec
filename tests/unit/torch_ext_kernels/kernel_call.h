#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <ostream>
#include <string>
#include <vector>

namespace tsquant::testing {

/// Runs tsquant::<name> through the dispatcher. @return all results
inline std::vector<c10::IValue> run_kernel_results(const std::string& name, std::vector<c10::IValue> stack,
                                                   const std::string& overload = "") {
  c10::Dispatcher::singleton().findSchemaOrThrow(("tsquant::" + name).c_str(), overload.c_str()).callBoxed(&stack);
  return stack;
}

/// The same for the first result.
inline c10::IValue run_kernel(const std::string& name, std::vector<c10::IValue> stack,
                              const std::string& overload = "") {
  return run_kernel_results(name, std::move(stack), overload).at(0);
}

/// A convolution to test. Lists have one entry per spatial dimension.
struct ConvCase {
  std::string name;
  std::vector<int64_t> input;  ///< batch, channels, spatial...
  int64_t out = 1;
  std::vector<int64_t> kernel, stride, padding, dilation;
  int64_t groups = 1;
  bool transposed = false;
  int64_t in_zero_point = 0;

  int64_t dims() const { return static_cast<int64_t>(kernel.size()); }
};
inline std::ostream& operator<<(std::ostream& out, const ConvCase& c) { return out << c.name; }

/// Codes, weights and bias of a case. Scales are powers of two and the bias a multiple of the unit of the sums, so that
/// float arithmetic is exact and every result must be equal, ties included.
struct ConvData {
  at::Tensor x, weight, scales, bias;
};

inline ConvData make_data(const ConvCase& c) {
  ConvData d;
  const int64_t per_group_in = c.input[1] / c.groups, per_group_out = c.out / c.groups;
  std::vector<int64_t> shape =
      c.transposed ? std::vector<int64_t>{c.input[1], per_group_out} : std::vector<int64_t>{c.out, per_group_in};
  shape.insert(shape.end(), c.kernel.begin(), c.kernel.end());
  d.x = at::_make_per_tensor_quantized_tensor(at::randint(0, 256, c.input, at::kByte), 0.0625, c.in_zero_point);
  d.weight = at::randint(-127, 128, shape, at::kChar);
  d.scales = at::pow(2.0, -at::randint(4, 7, {c.out}, at::kFloat));
  d.bias = at::randint(-4096, 4096, {c.out}, at::kFloat) * 0.0625 * d.scales;
  return d;
}

inline at::Tensor float_result(const ConvCase& c, const ConvData& d) {
  std::vector<int64_t> shape(d.weight.dim(), 1);
  at::Tensor scales = d.scales.to(at::kDouble);
  if (c.transposed) {  // [in, out / groups, k...]: the channels of a group have the scales of its outputs
    shape[0] = c.input[1];
    shape[1] = -1;
    scales = scales.reshape({c.groups, -1}).repeat_interleave(c.input[1] / c.groups, 0);
  } else {
    shape[0] = -1;
  }
  const at::Tensor w = d.weight.to(at::kDouble) * scales.reshape(shape);
  const std::vector<int64_t> none(c.kernel.size(), 0);
  return at::convolution(d.x.dequantize().to(at::kDouble), w, d.bias.to(at::kDouble), c.stride, c.padding, c.dilation,
                         c.transposed, none, c.groups)
      .to(at::kFloat);
}

inline c10::IValue pack(const ConvCase& c, const ConvData& d, c10::IValue low = {}, c10::IValue high = {}) {
  const std::vector<int64_t> none(c.kernel.size(), 0);
  return run_kernel("conv_pack", {d.weight, d.scales, d.bias, c.stride, c.padding, c.dilation, none, c.groups,
                                  c.transposed, low, high});
}

inline at::Tensor random_codes(at::IntArrayRef sizes, double scale, int64_t zero_point,
                               at::ScalarType type = at::kQUInt8) {
  const at::Tensor codes =
      type == at::kQUInt8 ? at::randint(0, 256, sizes, at::kByte) : at::randint(-128, 128, sizes, at::kChar);
  return at::_make_per_tensor_quantized_tensor(codes, scale, zero_point);
}

}  // namespace tsquant::testing
