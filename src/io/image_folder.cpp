#include "io/image_folder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "io/input_path.h"
#include "tsquant/error.h"

#ifdef TSQUANT_WITH_OPENCV
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#endif

namespace tsquant {

namespace fs = std::filesystem;

namespace {

bool is_image(const fs::path& file) {
  static const std::set<std::string> extensions = {".jpg", ".jpeg", ".png", ".bmp", ".ppm",
                                                   ".pgm", ".webp", ".tif", ".tiff"};
  std::string extension = file.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return extensions.count(extension) > 0;
}

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::vector<fs::path> entries;
  require_readable(folder.string(), ErrorCode::kDataset);
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    entries.push_back(entry->path());
  }
  if (error) throw Error(ErrorCode::kDataset, "cannot read the folder: " + error.message(), folder.string());
  std::sort(entries.begin(), entries.end());
  return entries;
}

}  // namespace

ImageFolder list_images(const std::string& folder) {
#ifndef TSQUANT_WITH_OPENCV
  throw Error(ErrorCode::kDataset, "this build of tsquant cannot read images", folder,
              "install libopencv-imgcodecs-dev and libopencv-imgproc-dev and build again, or convert the images to a "
              ".npy or .pt file");
#endif
  ImageFolder result;
  std::vector<int64_t> labels;
  int64_t classes = 0;
  for (const auto& entry : sorted_entries(folder)) {
    std::error_code unknown;  // such as a link to nowhere
    if (!fs::is_directory(entry, unknown)) {
      if (is_image(entry)) result.files.push_back(entry.string());
      continue;
    }
    for (const auto& file : sorted_entries(entry)) {
      if (!is_image(file)) continue;
      result.files.push_back(file.string());
      labels.push_back(classes);
    }
    ++classes;
  }
  if (result.files.empty()) throw Error(ErrorCode::kDataset, "the folder holds no images", folder);
  if (labels.size() == result.files.size()) result.labels = at::tensor(labels, c10::kLong);
  return result;
}

at::Tensor read_image(const std::string& file, int64_t size) {
#ifdef TSQUANT_WITH_OPENCV
  require_readable(file, ErrorCode::kDataset);
  cv::Mat image = cv::imread(file, cv::IMREAD_COLOR);
  if (image.empty()) throw Error(ErrorCode::kDataset, "cannot decode the image", file, "remove it from the folder");
  if (size > 0 && (image.rows != size || image.cols != size)) {
    cv::Mat resized;
    cv::resize(image, resized, cv::Size(static_cast<int>(size), static_cast<int>(size)), 0, 0, cv::INTER_AREA);
    image = resized;
  }
  cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
  const auto pixels = at::from_blob(image.data, {image.rows, image.cols, 3}, c10::kByte);
  return pixels.permute({2, 0, 1}).contiguous();
#else
  (void)size;
  throw Error(ErrorCode::kDataset, "this build of tsquant cannot read images", file);
#endif
}

}  // namespace tsquant
