#include "compression/mean_compensation.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "run/single_thread_guard.h"
#include "tsquant/error.h"

namespace tsquant {

at::Tensor mean_compensation(const at::Tensor& weight, const at::Tensor& values, const at::Tensor& mean) {
  if (weight.dim() != 2 || values.sizes() != weight.sizes() || mean.dim() != 1 || mean.numel() != weight.size(1)) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("a weight of shape [{}], values of shape [{}] and a mean of shape [{}]",
                    fmt::join(weight.sizes(), ", "), fmt::join(values.sizes(), ", "), fmt::join(mean.sizes(), ", ")),
        "mean_compensation", "give matrices of one shape and the mean input of this layer");
  }
  const SingleThreadGuard deterministic;
  const auto difference = weight.detach().to(at::kDouble) - values.detach().to(at::kDouble);
  const auto result = at::mv(difference, mean.to(at::kDouble)).to(at::kFloat);
  if (at::isfinite(result).all().item<bool>()) return result;
  throw Error(ErrorCode::kCalibration, "the mean error of a layer's outputs is NaN or infinite", "mean_compensation",
              "check the calibration data, or leave the bias as it is");
}

}  // namespace tsquant
