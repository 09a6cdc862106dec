#include "kernels/conv_spec.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace tsquant::kernels {
namespace {

/// Sizes, strides and the like beyond this are damage; products of two of them stay inside int64.
constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();

void check_list(const std::vector<int64_t>& values, int64_t dims, int64_t least, const char* name) {
  TORCH_CHECK(static_cast<int64_t>(values.size()) == dims, "tsquant: ", name, " of a convolution needs ", dims,
              " numbers, one per spatial dimension; it has ", values.size());
  for (const int64_t value : values) {
    TORCH_CHECK(value >= least && value <= kLargest, "tsquant: ", name, " of a convolution must lie between ", least,
                " and ", kLargest, "; it is ", at::IntArrayRef(values));
  }
}

/// LibTorch makes tensors with the sizes and strides that a file names and does not look whether the storage is as
/// long.
void check_elements(const at::Tensor& t, const char* name) {
  TORCH_CHECK(t.layout() == at::kStrided && t.device().is_cpu(), "tsquant: ", name, " must be a dense CPU tensor");
  int64_t last = t.storage_offset();
  bool fits = last >= 0;
  for (int64_t d = 0; d < t.dim(); ++d) {
    int64_t step = 0;
    fits = fits && t.size(d) >= 0 && t.stride(d) >= 0 && !__builtin_mul_overflow(t.size(d) - 1, t.stride(d), &step) &&
           !__builtin_add_overflow(last, step, &last);
  }
  const auto held = static_cast<int64_t>(t.storage().nbytes() / t.dtype().itemsize());
  TORCH_CHECK(fits && (t.numel() == 0 || last < held), "tsquant: ", name, " is larger than its data");
}

void check_weight(const ConvSpec& s) {
  TORCH_CHECK(s.weight.defined() && s.weight.scalar_type() == at::kChar && s.weight.layout() == at::kStrided &&
                  s.weight.device().is_cpu(),
              "tsquant: the weight of a convolution must be a dense CPU tensor of int8 codes");
  TORCH_CHECK(s.weight.dim() >= 3 && s.weight.dim() <= 5, "tsquant: the weight must have 3 to 5 dimensions, it has ",
              s.weight.dim());
  for (const int64_t size : s.weight.sizes()) {
    TORCH_CHECK(size >= 1 && size <= kLargest, "tsquant: the weight of a convolution is empty: ", s.weight.sizes());
  }
  check_elements(s.weight, "the weight of a convolution");
  TORCH_CHECK(s.groups >= 1 && s.weight.size(0) % s.groups == 0, "tsquant: ", s.weight.size(0),
              " channels cannot be split into ", s.groups, " groups");
  TORCH_CHECK(s.weight.size(1) <= kLargest / s.groups, "tsquant: too many channels: ", s.groups, " groups of ",
              s.weight.size(1));
}

at::Tensor checked_scales(const ConvSpec& s) {
  TORCH_CHECK(s.scales.defined() && (s.scales.numel() == 1 || s.scales.numel() == s.out_channels()),
              "tsquant: one weight scale, or one per output channel (", s.out_channels(), "), is needed");
  check_elements(s.scales, "the scales of a convolution");
  const at::Tensor scales = s.scales.detach().to(at::kCPU, at::kFloat).reshape({-1}).contiguous();
  const float* begin = scales.data_ptr<float>();
  for (int64_t i = 0; i < scales.numel(); ++i) {
    TORCH_CHECK(std::isfinite(begin[i]) && begin[i] > 0, "tsquant: weight scales must be positive and finite; number ",
                i, " is ", begin[i]);
  }
  return scales.expand({s.out_channels()}).contiguous();
}

}  // namespace

double ConvSpec::multiply_adds() const {
  if (out_channels() == 0) return 0;
  double products = static_cast<double>(weight.numel()) / static_cast<double>(out_channels());
  if (!transposed) return products;
  for (const int64_t step : stride) products /= static_cast<double>(step);
  return products;
}

ConvSpec ConvSpec::checked() const {
  ConvSpec s = *this;
  check_weight(s);
  const int64_t dims = s.spatial_dims();
  check_list(s.stride, dims, 1, "the stride");
  check_list(s.padding, dims, 0, "the padding");
  check_list(s.dilation, dims, 1, "the dilation");
  check_list(s.output_padding, dims, 0, "the output padding");
  for (size_t i = 0; s.transposed && i < s.stride.size(); ++i) {
    TORCH_CHECK(s.output_padding[i] < std::max(s.stride[i], s.dilation[i]), "tsquant: the output padding ",
                at::IntArrayRef(s.output_padding), " must be smaller than the stride or the dilation");
  }
  s.weight = s.weight.contiguous();
  s.scales = checked_scales(s);
  if (s.bias.defined()) {
    TORCH_CHECK(s.bias.numel() == s.out_channels(), "tsquant: the bias has ", s.bias.numel(), " values for ",
                s.out_channels(), " output channels");
    check_elements(s.bias, "the bias of a convolution");
    s.bias = s.bias.detach().to(at::kCPU, at::kFloat).reshape({-1}).contiguous();
  }
  TORCH_CHECK(s.clamp_min <= s.clamp_max, "tsquant: the clamp of a convolution is empty: [", s.clamp_min, ", ",
              s.clamp_max, "]");
  return s;
}

ConvGeometry ConvSpec::geometry(at::IntArrayRef input) const {
  ConvGeometry g;
  g.batch = input[0];
  g.channels = in_channels();
  g.out_channels = out_channels();
  g.groups = groups;
  g.transposed = transposed;
  const int64_t dims = spatial_dims();
  // Spatial dimensions fill the last places of depth, height, width.
  const auto set = [&](int64_t i, int64_t& size, int64_t& kernel, int64_t& step, int64_t& pad, int64_t& spread,
                       int64_t& extra) {
    if (i < 0) return;
    const auto at = static_cast<size_t>(i);
    size = input[at + 2];
    TORCH_CHECK(size <= kLargest, "tsquant: the input of a convolution is too large: ", input);
    kernel = weight.size(i + 2);
    step = stride[at];
    pad = padding[at];
    spread = dilation[at];
    extra = transposed ? output_padding[at] : 0;
  };
  set(dims - 3, g.depth, g.kernel_d, g.stride_d, g.pad_d, g.dilation_d, g.output_padding_d);
  set(dims - 2, g.height, g.kernel_h, g.stride_h, g.pad_h, g.dilation_h, g.output_padding_h);
  set(dims - 1, g.width, g.kernel_w, g.stride_w, g.pad_w, g.dilation_w, g.output_padding_w);
  double pixels = 1;
  for (const Axis& axis : g.axes()) {
    TORCH_CHECK(axis.size > 0, "tsquant: a convolution needs an input with pixels, its shape is ", input);
    if (!transposed) {
      TORCH_CHECK(axis.size + 2 * axis.pad > axis.reach(), "tsquant: the kernel spans ", axis.reach() + 1,
                  " values, the padded input has only ", axis.size + 2 * axis.pad);
    }
    const int64_t out = axis.out(transposed);
    TORCH_CHECK(out > 0, "tsquant: the transposed convolution of an input of shape ", input, " has no pixels");
    pixels *= static_cast<double>(out);
  }
  TORCH_CHECK(pixels < static_cast<double>(kLargest), "tsquant: the result of the convolution has ", pixels,
              " pixels per image; at most ", kLargest, " are possible");
  return g;
}

WeightSums weight_sums(const int8_t* weight, const ConvGeometry& g, const Phase& phase) {
  WeightSums sums;
  sums.plain.resize(static_cast<size_t>(g.out_channels));
  sums.magnitude.resize(static_cast<size_t>(g.out_channels));
  for (int64_t out = 0; out < g.out_channels; ++out) {
    int64_t plain = 0, magnitude = 0;
    const int64_t stride = g.weight_index(out, 1, 0) - g.weight_index(out, 0, 0);
    for (const auto& tap : phase.taps) {
      const int8_t* w = weight + g.weight_index(out, 0, (tap[0] * g.kernel_h + tap[1]) * g.kernel_w + tap[2]);
      for (int64_t c = 0; c < g.channels / g.groups; ++c) {
        plain += w[c * stride];
        magnitude += std::abs(static_cast<int>(w[c * stride]));
      }
    }
    sums.plain[static_cast<size_t>(out)] = static_cast<double>(plain);
    sums.magnitude[static_cast<size_t>(out)] = static_cast<double>(magnitude);
  }
  return sums;
}

}  // namespace tsquant::kernels
