#pragma once

#include <ATen/ATen.h>
#include <torch/custom_class.h>

#include <mutex>

namespace tsquant::kernels {

/// TorchScript object that holds a weight in float16 (`torch.classes.tsquant.HalfWeight`). It becomes floats when it is
/// first read and stays so: every float16 number is a float, so the file is written with the same bits.
class HalfWeight : public torch::CustomClassHolder {
 public:
  /// @throws c10::Error for another type than float16
  explicit HalfWeight(const at::Tensor& values);

  /// All values as float32. May be called by several threads.
  at::Tensor floats() const;
  /// All values as float16, for the file.
  at::Tensor halves() const;
  std::string description() const;

 private:
  mutable std::mutex mutex_;
  mutable at::Tensor values_;  ///< float16 until floats() is called
};

}  // namespace tsquant::kernels
