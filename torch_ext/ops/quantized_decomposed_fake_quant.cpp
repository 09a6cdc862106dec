// fake_quant_per_channel: quantize and dequantize in one step, with a gradient.
#include <torch/autograd.h>

#include "ops/decomposed_checks.h"
#include "ops/quantized_decomposed.h"

namespace tsquant::decomposed {
namespace {

struct FakeQuant {
  Tensor output;
  Tensor inside;  ///< the code was inside [quant_min, quant_max] before clamping
};

FakeQuant fake_quant(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t axis,
                     int64_t quant_min, int64_t quant_max) {
  TORCH_CHECK(input.scalar_type() == at::kFloat,
              "Expecting input to have dtype float32, but got dtype: ", input.scalar_type());
  TORCH_CHECK(quant_min <= quant_max, "Expecting quant_min to be at most quant_max but received min: ", quant_min,
              " max: ", quant_max);
  axis = check_axis(input, axis, scales, zero_points);
  check_divisor_scales(scales);
  std::vector<int64_t> shape(input.dim(), 1);
  shape[axis] = input.size(axis);
  const Tensor scale = scales.to(at::kFloat).reshape(shape);
  const Tensor shift = zero_points.to(at::kInt).reshape(shape);
  const Tensor codes = at::round(input * scale.reciprocal()) + shift;
  return {(codes.clamp(quant_min, quant_max) - shift) * scale, at::logical_and(codes >= quant_min, codes <= quant_max)};
}

struct FakeQuantPerChannel : public torch::autograd::Function<FakeQuantPerChannel> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& input, const Tensor& scales,
                        const Tensor& zero_points, int64_t axis, int64_t quant_min, int64_t quant_max) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    const FakeQuant parts = fake_quant(input, scales, zero_points, axis, quant_min, quant_max);
    context->save_for_backward({parts.inside});
    return parts.output;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const Tensor inside = context->get_saved_variables()[0];
    const Tensor none;
    return {gradients[0] * inside, none, none, none, none, none};
  }
};

}  // namespace

Tensor composed::fake_quant_per_channel(const Tensor& input, const Tensor& scales, const Tensor& zero_points,
                                        int64_t axis, int64_t quant_min, int64_t quant_max) {
  return fake_quant(input, scales, zero_points, axis, quant_min, quant_max).output;
}

Tensor fake_quant_per_channel_autograd(const Tensor& input, const Tensor& scales, const Tensor& zero_points,
                                       int64_t axis, int64_t quant_min, int64_t quant_max) {
  return FakeQuantPerChannel::apply(input, scales, zero_points, axis, quant_min, quant_max);
}

}  // namespace tsquant::decomposed
