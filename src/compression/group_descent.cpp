#include "compression/group_descent.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "numerics/formats.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Powers of a factor until a coarse format of scales has another one.
constexpr int kMostPowers = 64;

/// The first scale * factor^i that is stored as another one; the scale itself when there is none.
float another_scale(const StoredScales& stored, float scale, double factor) {
  double target = scale;
  for (int i = 0; i < kMostPowers; ++i) {
    target *= factor;
    const auto wanted = static_cast<float>(target);
    if (!stored.codec().usable(wanted)) return scale;
    const float other = stored.nearest(wanted);
    if (other != scale) return other;
  }
  return scale;
}

}  // namespace

/// Other parameters of one group, and what codes would make of them, for the rows of a panel.
struct GroupDescent::Trial {
  std::vector<float> scales;
  std::vector<int64_t> zero_points;
  std::vector<double> gains;  ///< by how much the error of a row falls; minus infinity: the row cannot have them
  std::vector<uint8_t> codes;
  std::vector<float> levels, steps;  ///< [group_size][rows], what values change by
};

GroupDescent::GroupDescent(const QParams& q, const at::Tensor& hessian, const GroupDescentOptions& options)
    : hessian_(hessian),
      stored_(q, options.scale_type),
      factors_(options.factors),
      move_zero_points_(options.zero_points && format_info(q.format).integer && q.dtype == c10::kByte),
      lowest_zero_(q.quant_min),
      highest_zero_(q.quant_max) {
  for (const double factor : factors_) {
    if (factor > 0 && factor != 1 && std::isfinite(factor)) continue;
    throw Error(ErrorCode::kInvalidArgument, fmt::format("a factor of scales of {}", factor), "GroupDescentOptions",
                "give positive ones other than 1");
  }
}

std::vector<GroupDescent::Trial> GroupDescent::trials_of(const CodePanel& panel, int64_t group) const {
  const float* scales = panel.scales.data_ptr<float>() + group * panel.rows;
  const int64_t* zeros = panel.zero_points.data_ptr<int64_t>() + group * panel.rows;
  Trial present;
  present.scales.assign(scales, scales + panel.rows);
  present.zero_points.assign(zeros, zeros + panel.rows);
  present.gains.assign(static_cast<size_t>(panel.rows), 0);
  std::vector<Trial> trials{present};
  for (const double factor : factors_) {
    Trial& trial = trials.emplace_back(present);
    for (int64_t r = 0; r < panel.rows; ++r) trial.scales[r] = another_scale(stored_, scales[r], factor);
  }
  for (const int64_t move : {-1, 1}) {
    if (!move_zero_points_) break;
    Trial& trial = trials.emplace_back(present);
    for (int64_t r = 0; r < panel.rows; ++r) {
      trial.zero_points[r] += move;
      if (trial.zero_points[r] >= lowest_zero_ && trial.zero_points[r] <= highest_zero_) continue;
      trial.gains[r] = -std::numeric_limits<double>::infinity();
    }
  }
  return trials;
}

/// @param block H of the group's inputs
void GroupDescent::descend(const CodePanel& panel, int64_t group, const at::Tensor& block, Trial& trial) const {
  const int64_t size = panel.group_size, rows = panel.rows, first = group * size;
  const auto values = panel.levels.narrow(0, first, size) * panel.scales.narrow(0, group, 1);
  const auto products = panel.products.narrow(0, first, size).clone();
  const auto count = static_cast<size_t>(size * rows);
  trial.codes.resize(count);
  trial.levels.resize(count);
  trial.steps.resize(count);
  std::vector<float> targets(static_cast<size_t>(rows));
  for (int64_t i = 0; i < size; ++i) {
    const float* h = block.data_ptr<float>() + i * size;
    const float* value = values.data_ptr<float>() + i * rows;
    const float* product = products.data_ptr<float>() + i * rows;
    const float* levels = trial.levels.data() + i * rows;
    float* steps = trial.steps.data() + i * rows;
    for (int64_t r = 0; r < rows; ++r) targets[r] = value[r] + (h[i] > 0 ? product[r] / h[i] : 0);
    stored_.codec().encode_each(targets.data(), rows, trial.scales.data(), trial.zero_points.data(),
                                trial.codes.data() + i * rows, trial.levels.data() + i * rows);
    for (int64_t r = 0; r < rows; ++r) {
      steps[r] = levels[r] * trial.scales[r] - value[r];
      trial.gains[r] += static_cast<double>(steps[r]) * (2 * product[r] - steps[r] * h[i]);
    }
    for (int64_t k = 0; k < size; ++k) {
      float* other = products.data_ptr<float>() + k * rows;
      for (int64_t r = 0; r < rows; ++r) other[r] -= h[k] * steps[r];
    }
  }
}

/// Takes for each row the trial that lowers its error most; returns what values change by, [group_size, rows].
at::Tensor GroupDescent::take_best(CodePanel& panel, int64_t group, const std::vector<Trial>& trials) const {
  const int64_t size = panel.group_size, rows = panel.rows, first = group * size * rows;
  auto steps = at::zeros({size, rows}, at::kFloat);
  auto* step = steps.data_ptr<float>();
  auto* codes = panel.codes.data_ptr<uint8_t>() + first;
  auto* levels = panel.levels.data_ptr<float>() + first;
  for (int64_t r = 0; r < rows; ++r) {
    const Trial* best = nullptr;
    for (const Trial& trial : trials) {
      if (trial.gains[r] > (best ? best->gains[r] : 0)) best = &trial;
    }
    if (!best) continue;
    panel.scales.data_ptr<float>()[group * rows + r] = best->scales[r];
    panel.zero_points.data_ptr<int64_t>()[group * rows + r] = best->zero_points[r];
    for (int64_t i = r; i < size * rows; i += rows) {
      codes[i] = best->codes[i];
      levels[i] = best->levels[i];
      step[i] = best->steps[i];
    }
  }
  return steps;
}

StepErrors GroupDescent::run(CodePanel& panel) const {
  const auto before = panel.copy();
  const auto errors_before = panel.errors();
  const int64_t size = panel.group_size;
  for (int64_t group = 0; size <= kLargestDescentGroup && group < panel.groups(); ++group) {
    const auto columns = hessian_.narrow(1, group * size, size);
    const auto block = columns.narrow(0, group * size, size).contiguous();
    auto trials = trials_of(panel, group);
    for (Trial& trial : trials) descend(panel, group, block, trial);
    panel.products.addmm_(columns, take_best(panel, group, trials), 1, -1);
  }
  return keep_better_rows(panel, before, errors_before);
}

CompressedWeight group_descent(const at::Tensor& weight, const CompressedWeight& start, const at::Tensor& hessian,
                               const GroupDescentOptions& options, StepErrors* errors) {
  const GroupDescent descent(start.qparams, hessian, options);
  return improve_panels(weight, start, hessian, "group_descent", errors,
                        [&](CodePanel& panel, const GroupCodec&) { return descent.run(panel); });
}

}  // namespace tsquant
