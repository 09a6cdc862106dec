#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "tsquant/dataset.h"

namespace tsquant {

/// How the samples of a data file become inputs of the model (the options of `--data`).
struct DataOptions {
  std::vector<std::string> inputs;  ///< buffer, key or array names, one per model input; empty: the only tensor
  std::string labels;               ///< name of the label tensor; empty: none
  int64_t batch_size = 1;
  double scale = 0;                  ///< divide by this; 0: not
  std::vector<double> mean, stddev;  ///< per channel (dimension 1); empty: not
  int64_t image_size = 0;            ///< folder of images: resize to image_size x image_size
  int64_t limit = 0;                 ///< use only the first rows; 0: all
  int64_t window = 0;                ///< token streams (one-dimensional tensors): cut into windows of this length
};

/// A loaded data file: the data set and the raw tensors behind it.
struct DataFile {
  Dataset dataset;
  std::vector<at::Tensor> inputs;  ///< as stored, rows along dimension 0
  at::Tensor labels;               ///< undefined when there are none
};

/// Reads a `.pt` (TorchScript module whose buffers are the samples, or a pickled tensor / list / tuple / dict), a
/// `.npy` / `.npz`, or a folder of images.
/// @throws Error kDataset: unreadable file, unknown name (the message lists the names there are), empty data
DataFile load_data(const std::string& path, const DataOptions& options);

}  // namespace tsquant
