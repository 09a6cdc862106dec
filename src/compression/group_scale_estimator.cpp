#include "compression/group_scale_estimator.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "tsquant/error.h"

namespace tsquant {

namespace {

/// A level of 0 counts as this one when weights are divided by levels.
constexpr double kZeroLevel = 0.001;
/// What the grid of scales goes down by, in parts of the first scale.
constexpr double kGridStep = 0.05;
constexpr double kImportanceEps = std::numeric_limits<float>::epsilon();

void check_estimation(const AdvancedScaleEstimationParameters& p) {
  if (p.initial_steps >= 0 && p.scale_steps >= 0 && p.scale_steps <= 20 && !std::isnan(p.weight_penalty)) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("scale estimation with initial_steps {}, scale_steps {} and weight_penalty {}",
                          p.initial_steps, p.scale_steps, p.weight_penalty),
              "scale_estimation_params", "give steps from 0 on, at most 20 scale_steps, and a number as the penalty");
}

}  // namespace

/// One group while scales are tried for it.
struct GroupScaleEstimator::Trial {
  const float* w;
  int64_t zero_point;
  float sign;
  std::vector<double> importance;  ///< of each channel for proposals, adding up to 1
  std::vector<uint8_t> codes;
  std::vector<float> levels;    ///< that the last encoding gave
  std::vector<double> outputs;  ///< error of each sample
  float best_scale;
  double best_error;
};

GroupScaleEstimator::GroupScaleEstimator(const GroupCodec& codec, const at::Tensor& inputs,
                                         const at::Tensor& magnitudes,
                                         const AdvancedScaleEstimationParameters& parameters)
    : codec_(codec), parameters_(parameters), samples_(inputs.size(1)) {
  check_estimation(parameters);
  const auto x = inputs.to(at::kFloat).contiguous();
  const auto s = magnitudes.to(at::kDouble).contiguous();
  inputs_.assign(x.data_ptr<float>(), x.data_ptr<float>() + x.numel());
  magnitudes_.assign(s.data_ptr<double>(), s.data_ptr<double>() + s.numel());
}

void GroupScaleEstimator::encode(Trial& trial, float scale) const {
  codec_.encode(trial.w, static_cast<int64_t>(magnitudes_.size()), scale, trial.zero_point, trial.codes.data(),
                trial.levels.data());
}

double GroupScaleEstimator::error_of(Trial& trial, float scale) const {
  std::fill(trial.outputs.begin(), trial.outputs.end(), 0);
  double weight_error = 0;
  for (size_t j = 0; j < magnitudes_.size(); ++j) {
    const double difference = static_cast<double>(trial.w[j]) - trial.levels[j] * scale;
    const float* x = inputs_.data() + static_cast<int64_t>(j) * samples_;
    double* outputs = trial.outputs.data();
    for (int64_t n = 0; n < samples_; ++n) outputs[n] += difference * x[n];
    weight_error += difference * difference;
  }
  double error = 0;
  for (const double output : trial.outputs) error += output * output;
  error /= static_cast<double>(samples_);
  if (parameters_.weight_penalty > 0) {
    error += parameters_.weight_penalty * weight_error / static_cast<double>(magnitudes_.size());
  }
  return error;
}

float GroupScaleEstimator::propose(const Trial& trial) const {
  double scale = 0;
  for (size_t j = 0; j < magnitudes_.size(); ++j) {
    const double level = std::fabs(trial.levels[j]);
    scale += std::fabs(trial.w[j]) / (level == 0 ? kZeroLevel : level) * trial.importance[j];
  }
  return static_cast<float>(scale) * trial.sign;
}

void GroupScaleEstimator::try_scale(Trial& trial, float scale) const {
  encode(trial, scale);
  const double error = error_of(trial, scale);
  if (error > trial.best_error) return;
  trial.best_error = error;
  trial.best_scale = scale;
}

void GroupScaleEstimator::try_proposal(Trial& trial) const {
  const float scale = propose(trial);
  if (!codec_.usable(scale)) return;
  const float nearest = codec_.storable(scale), other = codec_.other_storable(scale);
  try_scale(trial, nearest);
  if (other != nearest) try_scale(trial, other);
}

float GroupScaleEstimator::estimate(const float* w, float scale, int64_t zero_point) const {
  const size_t channels = magnitudes_.size();
  Trial trial{w,
              zero_point,
              scale < 0 ? -1.0F : 1.0F,
              magnitudes_,
              std::vector<uint8_t>(channels),
              std::vector<float>(channels),
              std::vector<double>(samples_),
              scale,
              0};
  encode(trial, scale);
  trial.best_error = error_of(trial, scale);
  double total = kImportanceEps;
  for (size_t j = 0; j < channels; ++j) {
    if (trial.levels[j] == 0) trial.importance[j] = 0;
    total += trial.importance[j];
  }
  for (double& importance : trial.importance) importance /= total;

  for (int64_t step = 0; step < parameters_.initial_steps; ++step) {
    encode(trial, trial.best_scale);
    try_proposal(trial);
  }
  for (int64_t step = 0; step < parameters_.scale_steps; ++step) {
    const float smaller = codec_.storable(static_cast<float>(scale * (1 - kGridStep * static_cast<double>(step))));
    encode(trial, smaller);
    try_proposal(trial);
  }
  return trial.best_scale;
}

}  // namespace tsquant
