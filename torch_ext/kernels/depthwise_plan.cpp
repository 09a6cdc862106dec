// Packing for the depthwise loops, and their threads.
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <algorithm>

#include "kernels/aligned_buffer.h"
#include "kernels/depthwise_hwy.h"

namespace tsquant::kernels {
namespace {

/// Pairs down the columns of the kernel, then along a last single row; see depthwise_hwy.cpp.
std::vector<int32_t> pair_taps(int64_t kernel_h, int64_t kernel_w) {
  std::vector<int32_t> taps;
  const auto add = [&](int64_t row, int64_t column) {
    taps.push_back(column < kernel_w ? static_cast<int32_t>(row * kernel_w + column) : -1);
  };
  for (int64_t row = 0; row + 1 < kernel_h; row += 2) {
    for (int64_t column = 0; column < kernel_w; ++column) {
      add(row, column);
      add(row + 1, column);
    }
  }
  for (int64_t column = 0; kernel_h % 2 == 1 && column < kernel_w; column += 2) {
    add(kernel_h - 1, column);
    add(kernel_h - 1, column + 1);
  }
  return taps;
}

/// Position of channel i of a block in the order of the sums: first all lower halves of eight, then all upper ones.
int64_t sum_position(int64_t i, int64_t width) { return i % 8 / 4 * (width / 2) + i / 8 * 4 + i % 4; }

void pack(DepthwisePlan& plan, const int8_t* weight, int64_t taps) {
  const int64_t width = plan.width, pairs = static_cast<int64_t>(plan.taps.size()) / 2;
  for (int64_t first = 0; first < plan.channels; first += width) {
    const DepthwiseBlock block = {std::min(first, plan.channels - width), static_cast<int64_t>(plan.weights.size())};
    plan.blocks.push_back(block);
    plan.weights.resize(plan.weights.size() + static_cast<size_t>(pairs * width * 2));
    int16_t* to = plan.weights.data() + block.weights;
    for (int64_t t = 0; t < 2 * pairs; ++t) {
      const int32_t tap = plan.taps[static_cast<size_t>(t)];
      for (int64_t i = 0; i < width; ++i) {
        const int16_t w = tap < 0 ? int16_t{0} : weight[(block.first_channel + i) * taps + tap];
        to[(t / 2 * width + sum_position(i, width)) * 2 + t % 2] = w;
      }
    }
  }
}

/// Values per channel in the order of the sums of each block.
std::vector<float> arranged(const DepthwisePlan& plan, const float* values) {
  std::vector<float> result(plan.blocks.size() * static_cast<size_t>(plan.width));
  float* to = result.data();
  for (const DepthwiseBlock& block : plan.blocks) {
    // Four neighbours stay neighbours.
    for (int64_t i = 0; i < plan.width; i += 4) {
      std::copy_n(values + block.first_channel + i, 4, to + sum_position(i, plan.width));
    }
    to += plan.width;
  }
  return result;
}

/// Narrow images, of which every second tile of pixels sees a border, are copied with their padding: gathering the
/// windows of such tiles takes longer.
bool is_narrow(const ConvGeometry& g) {
  constexpr int64_t kNarrow = 20;
  return g.pad_w > 0 && g.out_width() < kNarrow;
}

void pad_columns(const ConvGeometry& g, const uint8_t* source, uint8_t zero_point, AlignedBuffer& padded) {
  const int64_t row = g.width * g.channels, border = g.pad_w * g.channels, lines = g.batch * g.height;
  padded.resize(static_cast<size_t>(lines * (row + 2 * border)));
  auto* to = padded.as<uint8_t>();
  for (int64_t y = 0; y < lines; ++y, source += row) {
    to = std::fill_n(to, border, zero_point);
    to = std::copy_n(source, row, to);
    to = std::fill_n(to, border, zero_point);
  }
}

/// Keeps its size between calls.
thread_local AlignedBuffer padded_image;

}  // namespace

bool DepthwiseConv::supports(const ConvGeometry& g) {
  constexpr int64_t kMostTaps = (int64_t{1} << 31) / (255 * 128) - 1;
  return g.channels > 0 && g.out_channels == g.channels && g.kernel_h > 0 && g.kernel_w > 0 &&
         g.kernel_h <= kMostTaps && g.kernel_w <= kMostTaps && g.kernel_h * g.kernel_w <= kMostTaps;
}

DepthwiseConv::DepthwiseConv(const int8_t* weight, const ConvGeometry& g) {
  TORCH_CHECK(supports(g), "tsquant: a depthwise convolution with ", g.channels, " channels, ", g.out_channels,
              " results and a kernel of ", g.kernel_h, " x ", g.kernel_w, " is not supported");
  const int64_t taps = g.kernel_h * g.kernel_w;
  plan_.channels = g.channels;
  plan_.taps = pair_taps(g.kernel_h, g.kernel_w);
  loops_ = choose_depthwise_loops(g.channels);
  plan_.width = loops_.width;
  if (plan_.width > 0) {
    pack(plan_, weight, taps);
    return;
  }
  plan_.plain.resize(static_cast<size_t>(taps * g.channels));
  for (int64_t c = 0; c < g.channels; ++c) {
    for (int64_t t = 0; t < taps; ++t) plan_.plain[static_cast<size_t>(t * g.channels + c)] = weight[c * taps + t];
  }
}

void DepthwiseConv::run(const ConvGeometry& geometry, const uint8_t* source, uint8_t input_zero_point,
                        const Epilogue& e) const {
  ConvGeometry g = geometry;
  if (is_narrow(g)) {
    pad_columns(g, source, input_zero_point, padded_image);
    source = padded_image.as<uint8_t>();
    g.width += 2 * g.pad_w;
    g.pad_w = 0;
  }
  // Work for one thread: about 20 microseconds.
  constexpr int64_t kGrainProducts = 400000;
  constexpr int64_t kGroupChannels = 128;
  const std::vector<uint8_t> padding(static_cast<size_t>(g.width * g.channels), input_zero_point);
  const auto multiplier = arranged(plan_, e.multiplier), bias = arranged(plan_, e.bias);
  const auto factor = e.factor == nullptr ? std::vector<float>() : arranged(plan_, e.factor);
  DepthwiseCall call;
  call.plan = &plan_;
  call.g = g;
  call.source = source;
  call.padding_row = padding.data();
  call.e = e;
  call.multiplier = multiplier.data();
  call.bias = bias.data();
  call.factor = e.factor == nullptr ? nullptr : factor.data();
  if (plan_.width > 0) {
    const auto blocks = static_cast<int64_t>(plan_.blocks.size());
    call.group_blocks = std::max<int64_t>(1, kGroupChannels / plan_.width);
    // The last one takes what is left: blocks that overlap stay on one thread.
    call.groups = std::max<int64_t>(1, blocks / call.group_blocks);
  }
  const int64_t work = g.out_width() * g.kernel_h * g.kernel_w * g.channels / call.groups;
  const int64_t items = g.batch * g.out_height() * call.groups;
  at::parallel_for(0, items, std::max<int64_t>(1, kGrainProducts / std::max<int64_t>(work, 1)),
                   [&](int64_t begin, int64_t end) { loops_.rows(call, begin, end); });
}

}  // namespace tsquant::kernels
