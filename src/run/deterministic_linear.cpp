#include <ATen/ATen.h>
#include <torch/library.h>

#include "run/deterministic_ops.h"

namespace tsquant {

namespace {

/// x [..., inputs] as the channels-last image [1, inputs, rows, 1], to which a linear layer is a 1x1 convolution.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias) {
  if (!runs_on_onednn(x, weight) || x.dim() == 0 || weight.dim() != 2) {
    return bias ? at::linear(x, weight, *bias) : at::linear(x, weight);
  }
  const int64_t inputs = weight.size(1), outputs = weight.size(0);
  TORCH_CHECK(x.size(-1) == inputs, "mat1 and mat2 shapes cannot be multiplied: the last dimension of ", x.sizes(),
              " is not ", inputs);
  // Another layout would get another kernel.
  const auto image = x.contiguous().view({1, x.numel() / inputs, 1, inputs}).permute({0, 3, 1, 2});
  const std::vector<int64_t> zero{0, 0}, one{1, 1};
  const auto result =
      at::mkldnn_convolution(image, weight.reshape({outputs, inputs, 1, 1}), bias, zero, one, one, /*groups=*/1);
  auto shape = x.sizes().vec();
  shape.back() = outputs;
  return result.permute({0, 2, 3, 1}).reshape(shape);
}

TORCH_LIBRARY_FRAGMENT(tsquant, library) {
  library.def("deterministic_linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor",
              torch::dispatch(c10::DispatchKey::CompositeExplicitAutograd, TORCH_FN(linear)));
}

}  // namespace

}  // namespace tsquant
