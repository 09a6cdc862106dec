#include "kernels/double_conv.h"

#include <ATen/ATen.h>

namespace tsquant::kernels {

at::Tensor convolve_in_double(const ConvSpec& spec, const at::Tensor& x, bool clamp) {
  const at::Tensor codes = x.int_repr().to(at::kDouble) - static_cast<double>(x.q_zero_point());
  const at::Tensor sums =
      at::convolution(codes, spec.weight.to(at::kDouble), {}, spec.stride, spec.padding, spec.dilation, spec.transposed,
                      spec.transposed ? spec.output_padding : std::vector<int64_t>(spec.stride.size(), 0), spec.groups);
  std::vector<int64_t> per_channel(static_cast<size_t>(sums.dim()), 1);
  per_channel[1] = -1;
  at::Tensor y = sums * (spec.scales.to(at::kDouble) * x.q_scale()).reshape(per_channel);
  if (spec.bias.defined()) y = y + spec.bias.to(at::kDouble).reshape(per_channel);
  if (clamp) y = y.clamp(spec.clamp_min, spec.clamp_max);
  return y.to(at::kFloat);
}

}  // namespace tsquant::kernels
