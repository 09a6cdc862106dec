#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace tsquant {

/// What weight algorithms know of the inputs of a layer y = x W^T: the mean of each sample over all axes but the
/// channels', and how many rows it had. Source: nncf activation_stats.py.
class LayerSamples {
 public:
  LayerSamples() = default;
  /// @param means float32 [samples, in_features], as `means` gives them
  /// @throws Error kInvalidArgument when there are not as many rows as samples, or a value is not finite
  LayerSamples(const at::Tensor& means, std::vector<int64_t> rows);

  /// Adds one sample; one without values leaves no trace.
  /// @param inputs what the layer is given: floating point, in_features along `channel_axis`
  /// @throws Error kCalibration for NaN and infinite means; kInvalidArgument for another number of channels than before
  void add(const at::Tensor& inputs, int64_t channel_axis = -1);

  int64_t size() const { return static_cast<int64_t>(rows_.size()); }
  int64_t channels() const { return means_.empty() ? 0 : means_.front().numel(); }
  const std::vector<int64_t>& rows() const { return rows_; }
  at::Tensor means() const;

  /// X, float32 [in_features, samples]: the means of all samples, or, when there are more than `subset_size`, of every
  /// (size / subset_size)-th from the longest to the shortest. That may be more than `subset_size` of them.
  /// @throws Error kInvalidArgument when subset_size is below 1; kCalibration when there are no samples
  at::Tensor inputs(int64_t subset_size) const;
  /// s, float32 [in_features]: the largest magnitude among the means of all samples.
  at::Tensor magnitudes() const;

  /// What the layer is given once its inputs are divided by `scale` [in_features].
  LayerSamples divided(const at::Tensor& scale) const;

 private:
  std::vector<at::Tensor> means_;
  std::vector<int64_t> rows_;
};

}  // namespace tsquant
