#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace tsquant::kernels {

/// Sizes of a two-dimensional convolution without groups on channels-last codes.
struct ConvGeometry {
  int64_t batch = 1, channels = 0, height = 1, width = 1;
  int64_t out_channels = 0, kernel_h = 1, kernel_w = 1;
  int64_t stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0, dilation_h = 1, dilation_w = 1;

  int64_t out_height() const { return (height + 2 * pad_h - dilation_h * (kernel_h - 1) - 1) / stride_h + 1; }
  int64_t out_width() const { return (width + 2 * pad_w - dilation_w * (kernel_w - 1) - 1) / stride_w + 1; }
  int64_t out_pixels() const { return out_height() * out_width(); }

  /// Few or odd channel counts: a whole kernel row (kernel_w * channels contiguous bytes of a padded copy of the input)
  /// is one run, because a run of a single pixel would be too short or not a multiple of four bytes.
  bool by_rows() const { return channels % 4 != 0 || (channels <= 16 && kernel_w > 1 && dilation_w == 1); }
  /// False only for odd channel counts with a dilated kernel row.
  bool supported() const { return !by_rows() || dilation_w == 1 || kernel_w == 1; }

  int64_t taps() const { return by_rows() ? kernel_h : kernel_h * kernel_w; }
  int64_t run_bytes() const { return by_rows() ? kernel_w * channels : channels; }
  int64_t steps() const { return (run_bytes() + 3) / 4; }

  int64_t padded_width() const { return width + 2 * pad_w; }
  int64_t padded_image_bytes() const { return (height + 2 * pad_h) * padded_width() * channels; }
};

/// For every output pixel and tap the byte offset of the run in one image (of the padded copy when by_rows());
/// -1 where the tap lies in the padding.
using OffsetTable = std::vector<int32_t>;

/// The table of a geometry. Convolutions of the same shape share one table, so that it stays in the cache.
std::shared_ptr<const OffsetTable> offset_table(const ConvGeometry& geometry);

}  // namespace tsquant::kernels
