#include "kernels/dnnl_conv.h"

#include <ATen/core/Tensor.h>

#include <cstring>
#include <dnnl.hpp>
#include <limits>
#include <unordered_map>

#include "kernels/aligned_buffer.h"
#include "kernels/conv_spec.h"

namespace tsquant::kernels {
namespace {

using Memory = dnnl::memory;
using Dims = dnnl::memory::dims;
using Type = dnnl::memory::data_type;
using Tag = dnnl::memory::format_tag;

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& cpu_stream() {
  thread_local dnnl::stream stream(cpu_engine());
  return stream;
}

Tag data_tag(size_t rank) { return rank == 3 ? Tag::nwc : rank == 4 ? Tag::nhwc : Tag::ndhwc; }

Tag weight_tag(size_t rank) {
  static const Tag tags[] = {Tag::abc, Tag::abcd, Tag::abcde, Tag::abcdef};
  return tags[rank - 3];
}

/// oneDNN's order is [groups,] out, in, k...; a dense LibTorch weight is that already, except when transposed.
at::Tensor ordered_weight(const ConvSpec& spec) {
  auto weight = spec.weight;
  if (spec.groups > 1) {
    auto sizes = weight.sizes().vec();
    sizes[0] /= spec.groups;
    sizes.insert(sizes.begin(), spec.groups);
    weight = weight.view(sizes);
  }
  const int64_t first = spec.groups > 1 ? 1 : 0;
  return (spec.transposed ? weight.transpose(first, first + 1) : weight).contiguous();
}

}  // namespace

struct DnnlConv::Impl {
  dnnl::primitive primitive;
  Memory::desc source_desc, result_desc, scratch_desc;
  Memory weights, bias, source_zero_point;
  Dims padded_sizes;  // of the explicitly padded input; empty: the input is used as it is
  std::vector<int64_t> sizes, padding;
  uint8_t zero_point = 0;

  const uint8_t* pad(const uint8_t* source, AlignedBuffer& buffer) const;

  template <typename Forward>
  void finish(const typename Forward::primitive_desc& desc, const at::Tensor& weight,
              const std::vector<float>& bias_of_sums);
};

template <typename Forward>
void DnnlConv::Impl::finish(const typename Forward::primitive_desc& desc, const at::Tensor& weight,
                            const std::vector<float>& bias_of_sums) {
  primitive = Forward(desc);
  source_desc = desc.src_desc();
  result_desc = desc.dst_desc();
  scratch_desc = desc.scratchpad_desc();
  const Memory::desc plain(weight.sizes().vec(), Type::s8, weight_tag(static_cast<size_t>(weight.dim())));
  Memory from(plain, cpu_engine(), weight.data_ptr());
  weights = Memory(desc.weights_desc(), cpu_engine());
  dnnl::reorder(from, weights).execute(cpu_stream(), from, weights);
  bias = Memory(desc.bias_desc(), cpu_engine());
  const auto count = static_cast<size_t>(desc.bias_desc().dims()[0]);
  std::memcpy(bias.get_data_handle(), bias_of_sums.data(), count * sizeof(float));
  cpu_stream().wait();
}

namespace {

dnnl::primitive_attr make_attributes(const Requantize& r, int64_t channels, bool floats) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  attr.set_output_scales(2, std::vector<float>(r.multiplier.begin(), r.multiplier.begin() + channels));
  dnnl::post_ops ops;
  if (floats) {
    if (r.float_low > -std::numeric_limits<float>::infinity() ||
        r.float_high < std::numeric_limits<float>::infinity()) {
      ops.append_eltwise(1.0f, dnnl::algorithm::eltwise_clip, r.float_low, r.float_high);
    }
  } else {
    ops.append_eltwise(1.0f, dnnl::algorithm::eltwise_clip, static_cast<float>(r.low - r.zero_point),
                       static_cast<float>(r.high - r.zero_point));
    if (r.zero_point != 0) attr.set_zero_points(DNNL_ARG_DST, 0, {r.zero_point});
  }
  attr.set_post_ops(ops);
  return attr;
}

}  // namespace

DnnlConv::DnnlConv(const ConvSpec& spec, const std::vector<int64_t>& input, const std::vector<int64_t>& output,
                   const Requantize& requantize, int32_t input_zero_point, bool floats)
    : impl_(std::make_unique<Impl>()) {
  const size_t rank = input.size();
  Dims in = input, stride = spec.stride, dilation = spec.dilation, pad_l = spec.padding, pad_r = spec.padding;
  for (auto& d : dilation) d -= 1;
  impl_->zero_point = static_cast<uint8_t>(input_zero_point);
  auto attr = make_attributes(requantize, spec.out_channels(), floats);
  if (spec.transposed) {
    // A padded border cuts taps off the result here, so the zero point cannot be moved into the bias.
    if (input_zero_point != 0) attr.set_zero_points(DNNL_ARG_SRC, 0, {input_zero_point});
    for (size_t i = 0; i < pad_r.size(); ++i) pad_r[i] -= spec.output_padding[i];
  } else if (input_zero_point != 0) {
    // Border pixels stand for the value 0, whose code is the zero point: write them out.
    impl_->sizes = input;
    impl_->padding = spec.padding;
    for (size_t i = 0; i < spec.padding.size(); ++i) {
      in[i + 2] += 2 * spec.padding[i];
      if (spec.padding[i] != 0) impl_->padded_sizes = in;
      pad_l[i] = pad_r[i] = 0;
    }
    if (!impl_->padded_sizes.empty()) impl_->padded_sizes = in;
  }
  const at::Tensor weight = ordered_weight(spec);
  const Memory::desc source(in, Type::u8, data_tag(rank)), weights(weight.sizes().vec(), Type::s8, Tag::any),
      bias({spec.out_channels()}, Type::f32, Tag::x), result(output, floats ? Type::f32 : Type::u8, data_tag(rank));
  if (spec.transposed) {
    const dnnl::deconvolution_forward::desc desc(dnnl::prop_kind::forward_inference,
                                                 dnnl::algorithm::deconvolution_direct, source, weights, bias, result,
                                                 stride, dilation, pad_l, pad_r);
    impl_->finish<dnnl::deconvolution_forward>({desc, attr, cpu_engine()}, weight, requantize.bias_of_sums);
  } else {
    const dnnl::convolution_forward::desc desc(dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
                                               source, weights, bias, result, stride, dilation, pad_l, pad_r);
    impl_->finish<dnnl::convolution_forward>({desc, attr, cpu_engine()}, weight, requantize.bias_of_sums);
  }
  impl_->source_zero_point = Memory({{1}, Type::s32, Tag::x}, cpu_engine());
  std::memcpy(impl_->source_zero_point.get_data_handle(), &input_zero_point, sizeof(int32_t));
}

DnnlConv::~DnnlConv() = default;

/// Copies [batch, spatial..., channels] into the middle of a larger array of zero-point codes.
const uint8_t* DnnlConv::Impl::pad(const uint8_t* source, AlignedBuffer& buffer) const {
  // Missing spatial dimensions count as one, so that one loop serves all ranks.
  int64_t size[3] = {1, 1, 1}, border[3] = {0, 0, 0};
  const size_t spatial = padding.size();
  for (size_t i = 0; i < spatial; ++i) {
    size[3 - spatial + i] = sizes[2 + i];
    border[3 - spatial + i] = padding[i];
  }
  const int64_t channels = sizes[1], row = size[2] * channels;
  int64_t wide[3];
  for (int i = 0; i < 3; ++i) wide[i] = size[i] + 2 * border[i];
  const int64_t image = wide[0] * wide[1] * wide[2] * channels;
  buffer.resize(static_cast<size_t>(sizes[0] * image));
  auto* out = buffer.as<uint8_t>();
  std::memset(out, zero_point, static_cast<size_t>(sizes[0] * image));
  for (int64_t n = 0; n < sizes[0]; ++n) {
    for (int64_t z = 0; z < size[0]; ++z) {
      for (int64_t y = 0; y < size[1]; ++y, source += row) {
        const int64_t line = ((n * wide[0] + z + border[0]) * wide[1] + y + border[1]) * wide[2] + border[2];
        std::memcpy(out + line * channels, source, static_cast<size_t>(row));
      }
    }
  }
  return out;
}

void DnnlConv::run(const uint8_t* source, void* result) const {
  thread_local AlignedBuffer padded, scratch;
  if (!impl_->padded_sizes.empty()) source = impl_->pad(source, padded);
  scratch.resize(impl_->scratch_desc.get_size());
  const std::unordered_map<int, Memory> arguments = {
      {DNNL_ARG_SRC, Memory(impl_->source_desc, cpu_engine(), const_cast<uint8_t*>(source))},
      {DNNL_ARG_WEIGHTS, impl_->weights},
      {DNNL_ARG_BIAS, impl_->bias},
      {DNNL_ARG_DST, Memory(impl_->result_desc, cpu_engine(), result)},
      {DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC, impl_->source_zero_point},
      {DNNL_ARG_SCRATCHPAD, Memory(impl_->scratch_desc, cpu_engine(), scratch.as<void>())}};
  impl_->primitive.execute(cpu_stream(), arguments);
  cpu_stream().wait();
}

}  // namespace tsquant::kernels
