#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace tsquant::kernels {

/// One spatial dimension of a convolution.
struct Axis {
  int64_t size = 1, kernel = 1, stride = 1, pad = 0, dilation = 1, output_padding = 0;

  int64_t reach() const { return dilation * (kernel - 1); }
  int64_t out(bool transposed) const {
    return transposed ? (size - 1) * stride - 2 * pad + reach() + output_padding + 1
                      : (size + 2 * pad - reach() - 1) / stride + 1;
  }
};

/// Sizes of a convolution of up to three spatial dimensions on channels-last codes. Missing dimensions have size 1.
struct ConvGeometry {
  int64_t batch = 1, channels = 0, depth = 1, height = 1, width = 1;
  int64_t out_channels = 0, groups = 1;
  int64_t kernel_d = 1, kernel_h = 1, kernel_w = 1;
  int64_t stride_d = 1, stride_h = 1, stride_w = 1;
  int64_t pad_d = 0, pad_h = 0, pad_w = 0;
  int64_t dilation_d = 1, dilation_h = 1, dilation_w = 1;
  int64_t output_padding_d = 0, output_padding_h = 0, output_padding_w = 0;
  bool transposed = false;

  /// Depth, height, width.
  std::array<Axis, 3> axes() const {
    return {Axis{depth, kernel_d, stride_d, pad_d, dilation_d, output_padding_d},
            Axis{height, kernel_h, stride_h, pad_h, dilation_h, output_padding_h},
            Axis{width, kernel_w, stride_w, pad_w, dilation_w, output_padding_w}};
  }
  int64_t out_depth() const { return axes()[0].out(transposed); }
  int64_t out_height() const { return axes()[1].out(transposed); }
  int64_t out_width() const { return axes()[2].out(transposed); }
  int64_t out_pixels() const { return out_depth() * out_height() * out_width(); }
  int64_t in_pixels() const { return depth * height * width; }

  int64_t taps() const { return kernel_d * kernel_h * kernel_w; }
  /// Where the weight of an output channel, an input channel of its group and a tap lies in a dense LibTorch tensor.
  int64_t weight_index(int64_t out, int64_t channel, int64_t tap) const {
    const int64_t in_group = channels / groups, out_group = out_channels / groups;
    const int64_t row =
        transposed ? (out / out_group * in_group + channel) * out_group + out % out_group : out * in_group + channel;
    return row * taps() + tap;
  }

  /// One tap without borders or strides: every pixel of every image is computed alike.
  bool pointwise() const;
};

/// Which taps of the kernel meet at an output position. Without transposition there is one phase with all taps. A
/// transposed convolution has one per residue of the position modulo the stride, so that no zeros are inserted.
struct Phase {
  std::array<int64_t, 3> residue{};          ///< (position + padding) modulo the stride, when transposed
  std::vector<std::array<int64_t, 3>> taps;  ///< kernel positions (depth, height, width)
};

/// All phases of a kernel; only the kernel, stride, dilation and transposed fields are read.
std::vector<Phase> phases_of(const ConvGeometry& geometry);
/// How many there are, at once.
int64_t count_phases(const ConvGeometry& geometry);

/// The output positions of one phase: start, distance and number per axis.
struct OutputGrid {
  std::array<int64_t, 3> start{}, step{1, 1, 1}, count{};
  int64_t pixels() const { return count[0] * count[1] * count[2]; }
};
OutputGrid grid_of(const ConvGeometry& geometry, const Phase& phase);

/// How the elements of one image lie in memory when the tiles read them.
struct SourceLayout {
  /// A kernel row (kernel_w * channels elements that lie together in a copy with written-out borders) is one run.
  bool by_rows = false;

  int64_t pad(const Axis& axis) const { return by_rows ? axis.pad : 0; }
};

/// Runs per output pixel.
int64_t taps_in_table(const SourceLayout& layout, const Phase& phase);

/// For the pixels [first, first + count) of a grid and every tap the element offset of the run in one image (of the
/// copy with borders when by_rows); -1 where the tap lies in the padding. out has room for count * taps.
void fill_offsets(const ConvGeometry& geometry, const SourceLayout& layout, const Phase& phase, const OutputGrid& grid,
                  int64_t first, int64_t count, int32_t* out);

using OffsetTable = std::vector<int32_t>;

/// The offsets of all pixels of a grid, or null when the table would be large. Convolutions of the same shape share one
/// table, so that it stays in the cache.
std::shared_ptr<const OffsetTable> shared_offsets(const ConvGeometry& geometry, const SourceLayout& layout,
                                                  const Phase& phase, const OutputGrid& grid);

/// The output pixel of every pixel of the grid; empty when they are the same.
std::vector<int32_t> places_of(const ConvGeometry& geometry, const OutputGrid& grid);

}  // namespace tsquant::kernels
