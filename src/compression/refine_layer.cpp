#include "compression/refine_layer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "compression/coordinate_descent.h"
#include "compression/group_descent.h"
#include "compression/layer_matrix.h"
#include "compression/output_error.h"
#include "compression/refine_ladder.h"
#include "compression/round_to_nearest.h"
#include "compression/stored_scales.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

void check_refine(const RefineOptions& options) {
  const auto refuse = [](const std::string& message, const std::string& advice) {
    throw Error(ErrorCode::kInvalidArgument, message, "RefineOptions", advice);
  };
  if (options.starts.empty() || options.dampings.empty()) refuse("no start or no damping to try", "give one of each");
  if (!(options.enough_rows > 0)) refuse(fmt::format("enough_rows is {}", options.enough_rows), "give more than 0");
  if (options.rounds < 0) refuse(fmt::format("{} rounds", options.rounds), "give 0 or more");
  if (options.trial_rows < 1) refuse(fmt::format("{} trial_rows", options.trial_rows), "give at least 1");
  check_descent({options.sweeps, options.block_size});
}

class LayerRefinement {
 public:
  LayerRefinement(const LayerMatrix& matrix, const InputMoments& moments, const InputMoments* held_out,
                  const RefineOptions& options, RefineRecord& record)
      : weight_(matrix.weight()), spec_(matrix.spec()), options_(options), record_(record) {
    hessian_ = moments.hessian();
    record_.rows = moments.rows();
    if (!held_out) return;
    held_out_ = held_out->hessian();
    held_out_rows_ = held_out->rows();
  }

  CompressedWeight run() {
    DampedLayer layer = choose();
    const auto plain = start_of(weight_, RefineStart::kMinMax, {});
    const bool learns = options_.all_rows && held_out_.defined() && !has_enough_rows();
    if (learns) {
      measure_held_out(plain, trial_error(record_.start, layer));
      const double damping = layer.factor.damping;
      layer = {};  // before the next one is made: each takes two matrices of the size of H
      layer = with_held_out_rows(damping);
    }
    note_layer(layer.factor);
    const auto refined = climb(weight_, start_of(weight_, record_.start, layer.hessian), layer, options_);
    measure(plain, refined);
    if (held_out_.defined() && !learns) {
      const auto values = trial_rows_of(decompress(refined.weight));
      measure_held_out(plain, output_error(trial_rows_of(weight_), values, held_out_));
    }
    return better_of(plain, refined.weight);
  }

 private:
  CompressedWeight start_of(const at::Tensor& weight, RefineStart start, const at::Tensor& hessian) const {
    const auto found = start == RefineStart::kSearched
                           ? search_scales(weight, spec_, hessian.diagonal().contiguous(), options_.search)
                           : round_to_nearest(weight, spec_);
    return with_stored_scales(weight, found, options_.scale_type);
  }

  DampedLayer damped(double damping) const {
    DampingOptions options;
    options.damping = damping;
    options.largest = std::max(options.largest, damping);
    options.act_order = options_.act_order;
    DampedLayer result;
    result.factor = damped_factor(hessian_, options);
    result.hessian = damped_hessian(hessian_, result.factor.damping);
    result.ridge = damping_ridge(hessian_, result.factor.damping);
    return result;
  }

  bool has_enough_rows() const {
    return static_cast<double>(record_.rows) >= options_.enough_rows * static_cast<double>(weight_.size(1));
  }

  /// The start and the damping whose result has the lowest error on held-out rows.
  DampedLayer choose() {
    const size_t dampings = has_enough_rows() ? 1 : options_.dampings.size();
    const bool choice = options_.starts.size() * dampings > 1;
    record_.start = options_.starts.front();
    if (!choice) return damped(options_.dampings.front());
    if (!held_out_.defined()) {
      record_.notes.push_back("no held-out rows: the first start and damping were taken untried");
      return damped(options_.dampings.front());
    }
    DampedLayer best;
    double lowest = 0;
    for (size_t i = 0; i < dampings; ++i) {
      const DampedLayer layer = damped(options_.dampings[i]);
      for (const RefineStart start : options_.starts) {
        const double error = trial_error(start, layer);
        if (best.hessian.defined() && error >= lowest) continue;
        lowest = error;
        best = layer;
        record_.start = start;
      }
    }
    return best;
  }

  /// Makes the mean of x x^T that of all rows.
  DampedLayer with_held_out_rows(double damping) {
    const auto rows = static_cast<double>(record_.rows), more = static_cast<double>(held_out_rows_);
    hessian_ = hessian_ * (rows / (rows + more)) + held_out_ * (more / (rows + more));
    record_.rows += held_out_rows_;
    return damped(damping);
  }

  double trial_error(RefineStart start, const DampedLayer& layer) const {
    const auto weight = trial_rows_of(weight_);
    const auto result = climb(weight, start_of(weight, start, layer.hessian), layer, options_);
    return output_error(weight, decompress(result.weight), held_out_);
  }

  at::Tensor trial_rows_of(const at::Tensor& x) const {
    const int64_t outputs = x.size(0), count = std::min(options_.trial_rows, outputs);
    return x.index_select(0, at::div(at::arange(count, at::kLong) * outputs, count, "floor"));
  }

  void measure(const CompressedWeight& plain, const Climbed& refined) {
    const double total = output_error(weight_, {}, hessian_);
    const auto relative = [](double error, double whole) { return whole > 0 ? std::max(error, 0.0) / whole : 0; };
    record_.error.before = relative(output_error(weight_, decompress(plain), hessian_), total);
    const auto values = decompress(refined.weight);
    const bool measured = !refined.objectives.empty();
    record_.error.after = relative(measured ? refined.error : output_error(weight_, values, hessian_), total);
    for (const double objective : refined.objectives) record_.objectives.push_back(relative(objective, total));
    const size_t in_round = options_.rounds > 0 ? (refined.objectives.size() - 1) / options_.rounds : 1;
    for (size_t i = 0; i + in_round < refined.objectives.size(); i += in_round) {
      if (refined.objectives[i + in_round] < refined.objectives[i]) ++record_.rounds;
    }
  }

  /// @param error of the refined weight, for the trial rows
  void measure_held_out(const CompressedWeight& plain, double error) {
    const auto weight = trial_rows_of(weight_);
    record_.held_out.before = relative_output_error(weight, trial_rows_of(decompress(plain)), held_out_);
    record_.held_out.after = relative_error(std::max(error, 0.0), output_error(weight, {}, held_out_));
  }

  CompressedWeight better_of(const CompressedWeight& plain, const CompressedWeight& refined) {
    const OutputError& judged = held_out_.defined() ? record_.held_out : record_.error;
    if (judged.after <= judged.before) return refined;
    record_.notes.push_back(
        fmt::format("round_to_nearest was kept: its relative error on {} rows is {:.3g}, and {:.3g} refined",
                    held_out_.defined() ? "held-out" : "calibration", judged.before, judged.after));
    record_.error.after = record_.error.before;
    record_.held_out.after = record_.held_out.before;
    return plain;
  }

  void note_layer(const DampedFactor& factor) {
    const auto inputs = weight_.size(1);
    record_.damping = factor.damping;
    record_.dead_columns = factor.dead;
    if (factor.attempts > 1) {
      record_.notes.push_back(
          fmt::format("a damping of {:.3g} did not make the mean of x^T x positive definite: {:.3g} did",
                      factor.damping / std::pow(10, factor.attempts - 1), factor.damping));
    }
    if (record_.rows < inputs) {
      record_.notes.push_back(
          fmt::format("{} rows of calibration data for {} inputs: give more", record_.rows, inputs));
    }
    if (uses_groups(spec_.format, options_) && spec_.group_size > kLargestDescentGroup) {
      record_.notes.push_back(fmt::format("groups of {} inputs are too large for group descent", spec_.group_size));
    }
    if (factor.dead > 0) {
      record_.notes.push_back(fmt::format("{} inputs are always 0: their weights are rounded", factor.dead));
    }
  }

  at::Tensor weight_;
  QuantizationSpec spec_;
  const RefineOptions& options_;
  RefineRecord& record_;
  at::Tensor hessian_, held_out_;
  int64_t held_out_rows_ = 0;
};

}  // namespace

CompressedWeight refine(const at::Tensor& weight, const QuantizationSpec& spec, const InputMoments& moments,
                        const InputMoments* held_out, const RefineOptions& options, RefineRecord* record) {
  check_refine(options);
  const LayerMatrix matrix(weight, spec, "refine");
  matrix.check_channels(moments.channels());
  if (held_out) matrix.check_channels(held_out->channels());
  RefineRecord own;
  RefineRecord& used = record ? *record : own;
  used = {};
  return matrix.as_given(LayerRefinement(matrix, moments, held_out, options, used).run());
}

}  // namespace tsquant
