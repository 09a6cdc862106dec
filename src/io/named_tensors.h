#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace tsquant {

/// A tensor of a data file and the name under which `--inputs` finds it.
struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};
using NamedTensors = std::vector<NamedTensor>;

/// A `.pt` file: a TorchScript module (parameters, buffers and tensor attributes), or a pickled value written by
/// `torch.save` or `torch::jit::pickle_save`. A tuple or dict holds named columns ("0", "1", ... or the keys); a list
/// holds samples, which are joined along dimension 0.
/// @throws Error kDataset
NamedTensors read_torch_file(const std::string& path);

/// A `.npy` (one array, named "array") or `.npz` (named arrays) file.
/// @throws Error kDataset
NamedTensors read_numpy_file(const std::string& path);

/// "images uint8 [5000, 3, 32, 32]; labels int64 [5000]", for messages.
std::string describe(const NamedTensors& tensors);

}  // namespace tsquant
