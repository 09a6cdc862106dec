// Tensors as batches of images with the channels innermost in memory, for pooling and resizing.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

namespace tsquant::kernels {

/// Sizes of [batch, depth, height, width, channels]; missing spatial dimensions are 1.
struct ImageSizes {
  int64_t batch = 1, channels = 1;
  std::array<int64_t, 3> spatial = {1, 1, 1};

  int64_t pixels() const { return spatial[0] * spatial[1] * spatial[2]; }
};

/// The codes of a tensor as images.
class Images {
 public:
  /// @param rank spatial dimensions, 1 to 3 @param name of the operator, for errors
  Images(const at::Tensor& x, int64_t rank, const char* name);

  const ImageSizes& sizes() const { return sizes_; }
  const uint8_t* codes() const { return static_cast<const uint8_t*>(bytes_.data_ptr()); }

  /// A tensor of the input's type and layout with other spatial sizes (the last `rank` of `spatial`), filled by
  /// write(codes), which gets memory for images with the channels innermost.
  template <class Write>
  at::Tensor result(const std::array<int64_t, 3>& spatial, double scale, int64_t zero_point, const Write& write) const {
    at::Tensor made = empty_result(spatial, scale, zero_point);
    if (made.numel() == 0) return made;
    if (channels_last_) {
      write(static_cast<uint8_t*>(made.data_ptr()));
    } else {
      const at::Tensor images = empty_images(spatial);
      write(static_cast<uint8_t*>(images.data_ptr()));
      copy_to_planes(images, made);
    }
    return made;
  }

 private:
  at::Tensor empty_result(const std::array<int64_t, 3>& spatial, double scale, int64_t zero_point) const;
  at::Tensor empty_images(const std::array<int64_t, 3>& spatial) const;
  void copy_to_planes(const at::Tensor& images, const at::Tensor& result) const;

  at::Tensor x_;      // keeps the memory alive
  at::Tensor bytes_;  // [batch, spatial..., channels], contiguous
  ImageSizes sizes_;
  int64_t rank_;
  bool batched_, channels_last_;
};

/// Throws unless `list` has `rank` entries, each in [least, 2^31).
void check_list(at::IntArrayRef list, int64_t rank, int64_t least, const char* operator_name, const char* list_name);

}  // namespace tsquant::kernels
