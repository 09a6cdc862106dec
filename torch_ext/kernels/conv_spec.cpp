#include "kernels/conv_spec.h"

#include <ATen/ATen.h>

namespace tsquant::kernels {

ConvSpec ConvSpec::checked() const {
  ConvSpec s = *this;
  TORCH_CHECK(s.weight.defined() && s.weight.scalar_type() == at::kChar, "tsquant: weights must be int8 codes");
  TORCH_CHECK(s.weight.dim() >= 3 && s.weight.dim() <= 5, "tsquant: the weight must have 3 to 5 dimensions, it has ",
              s.weight.dim());
  TORCH_CHECK(s.groups >= 1 && s.weight.size(0) % s.groups == 0, "tsquant: ", s.weight.size(0),
              " channels cannot be split into ", s.groups, " groups");
  const auto dims = static_cast<size_t>(s.spatial_dims());
  TORCH_CHECK(s.stride.size() == dims && s.padding.size() == dims && s.dilation.size() == dims &&
                  s.output_padding.size() == dims,
              "tsquant: stride, padding, dilation and output_padding need one number per spatial dimension (", dims,
              ")");
  if (dims == 1) {
    s.weight = s.weight.unsqueeze(2);
    s.stride.insert(s.stride.begin(), 1);
    s.padding.insert(s.padding.begin(), 0);
    s.dilation.insert(s.dilation.begin(), 1);
    s.output_padding.insert(s.output_padding.begin(), 0);
  }
  s.weight = s.weight.contiguous();
  TORCH_CHECK(s.scales.defined() && (s.scales.numel() == 1 || s.scales.numel() == s.out_channels()),
              "tsquant: one weight scale, or one per output channel, is needed");
  s.scales = s.scales.to(at::kFloat).reshape({-1}).expand({s.out_channels()}).contiguous();
  if (s.bias.defined()) {
    TORCH_CHECK(s.bias.numel() == s.out_channels(), "tsquant: the bias has ", s.bias.numel(), " values for ",
                s.out_channels(), " output channels");
    s.bias = s.bias.detach().to(at::kFloat).contiguous();
  }
  return s;
}

WeightSums weight_sums(const ConvSpec& spec) {
  at::Tensor codes = spec.weight.to(at::kDouble);
  if (spec.transposed) {
    auto sizes = codes.sizes().vec();
    sizes[0] /= spec.groups;
    sizes.insert(sizes.begin(), spec.groups);
    codes = codes.reshape(sizes).transpose(1, 2);
  }
  codes = codes.reshape({spec.out_channels(), -1});
  const auto copy = [](const at::Tensor& t) {
    const at::Tensor dense = t.contiguous();
    return std::vector<double>(dense.data_ptr<double>(), dense.data_ptr<double>() + dense.numel());
  };
  return {copy(codes.sum(1)), copy(codes.abs().sum(1))};
}

}  // namespace tsquant::kernels
