#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace tsquant {

/// Image files of a folder in the order of their names. Sub-folders are classes, numbered in the order of their names.
struct ImageFolder {
  std::vector<std::string> files;
  at::Tensor labels;  ///< int64 [files]; undefined when there are no sub-folders
};

/// @throws Error kDataset when the folder holds no images, or this build has no image reader (OpenCV)
ImageFolder list_images(const std::string& folder);

/// uint8 [3, H, W], RGB.
/// @param size resize to size x size (area interpolation); 0: keep
/// @throws Error kDataset
at::Tensor read_image(const std::string& file, int64_t size);

}  // namespace tsquant
