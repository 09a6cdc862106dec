#include "compression/layer_samples.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "tsquant/error.h"

namespace tsquant {

namespace {

/// float32 [channels], added up in float64 and in a fixed order.
at::Tensor mean_of_rows(const at::Tensor& rows) {
  const auto values = rows.to(at::kFloat).contiguous();
  const int64_t count = values.size(0), channels = values.size(1);
  std::vector<double> sums(channels);
  const float* value = values.data_ptr<float>();
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t c = 0; c < channels; ++c) sums[c] += value[row * channels + c];
  }
  auto mean = at::empty({channels}, at::kFloat);
  for (int64_t c = 0; c < channels; ++c) {
    mean.data_ptr<float>()[c] = static_cast<float>(sums[c] / static_cast<double>(count));
  }
  return mean;
}

}  // namespace

LayerSamples::LayerSamples(const at::Tensor& means, std::vector<int64_t> rows) : rows_(std::move(rows)) {
  if (means.dim() != 2 || means.size(0) != size() || !at::isfinite(means).all().item<bool>()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("means of shape [{}] with {} row counts are no samples of a layer's inputs",
                            fmt::join(means.sizes(), ", "), rows_.size()),
                "", "give finite means [samples, in_features] and one row count for each sample");
  }
  for (int64_t i = 0; i < size(); ++i) means_.push_back(means[i].to(at::kFloat).contiguous());
}

void LayerSamples::add(const at::Tensor& inputs, int64_t channel_axis) {
  const int64_t dims = inputs.dim(), axis = channel_axis < 0 ? channel_axis + dims : channel_axis;
  if (axis < 0 || axis >= dims || !inputs.is_floating_point()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("inputs of type {} and shape [{}] have no channels along axis {}",
                            c10::toString(inputs.scalar_type()), fmt::join(inputs.sizes(), ", "), channel_axis));
  }
  const int64_t width = inputs.size(axis);
  if (!means_.empty() && width != channels()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("inputs with {} channels after inputs with {}", width, channels()));
  }
  if (inputs.numel() == 0) return;
  const auto mean = mean_of_rows(inputs.detach().movedim(axis, -1).reshape({-1, width}));
  if (!at::isfinite(mean).all().item<bool>()) {
    throw Error(ErrorCode::kCalibration, "the inputs of a layer have NaN or infinite values", "",
                "check the calibration data and the model's outputs for them");
  }
  means_.push_back(mean);
  rows_.push_back(inputs.numel() / width);
}

at::Tensor LayerSamples::means() const { return means_.empty() ? at::empty({0, 0}, at::kFloat) : at::stack(means_); }

at::Tensor LayerSamples::inputs(int64_t subset_size) const {
  if (subset_size < 1) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("subset_size is {}", subset_size), "subset_size",
                "give at least 1");
  }
  if (means_.empty()) {
    throw Error(ErrorCode::kCalibration, "no inputs of a layer were collected", "", "give calibration data");
  }
  if (size() <= subset_size) return means().t().contiguous();
  std::vector<size_t> order(rows_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rows_[a] > rows_[b]; });
  std::vector<at::Tensor> chosen;
  const auto step = static_cast<size_t>(size() / subset_size);
  for (size_t i = 0; i < order.size(); i += step) chosen.push_back(means_[order[i]]);
  return at::stack(chosen, 1);
}

at::Tensor LayerSamples::magnitudes() const { return at::amax(inputs(std::max<int64_t>(size(), 1)).abs(), {1}); }

LayerSamples LayerSamples::divided(const at::Tensor& scale) const {
  LayerSamples result = *this;
  for (auto& mean : result.means_) mean = mean / scale.to(at::kFloat);
  return result;
}

}  // namespace tsquant
