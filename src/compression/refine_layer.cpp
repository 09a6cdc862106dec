#include "compression/refine_layer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "compression/coordinate_descent.h"
#include "compression/damped_factor.h"
#include "compression/layer_matrix.h"
#include "compression/ordered_gptq.h"
#include "compression/output_error.h"
#include "compression/round_to_nearest.h"
#include "compression/scale_refit.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

void check_refine(const RefineOptions& options) {
  const auto refuse = [](const std::string& message, const std::string& advice) {
    throw Error(ErrorCode::kInvalidArgument, message, "RefineOptions", advice);
  };
  if (options.starts.empty() || options.dampings.empty()) refuse("no start or no damping to try", "give one of each");
  if (options.rounds < 0) refuse(fmt::format("{} rounds", options.rounds), "give 0 or more");
  if (options.trial_rows < 1) refuse(fmt::format("{} trial_rows", options.trial_rows), "give at least 1");
  check_descent({options.sweeps, options.block_size});
}

/// H of a layer, damped, and its factor.
struct DampedLayer {
  DampedFactor factor;
  at::Tensor hessian;
};

class LayerRefinement {
 public:
  LayerRefinement(const LayerMatrix& matrix, const InputMoments& moments, const InputMoments* held_out,
                  const RefineOptions& options, RefineRecord& record)
      : weight_(matrix.weight()), spec_(matrix.spec()), options_(options), record_(record) {
    hessian_ = moments.hessian();
    if (held_out) held_out_ = held_out->hessian();
    record_.rows = moments.rows();
  }

  CompressedWeight run() {
    const auto plain = start_of(weight_, RefineStart::kMinMax, {});
    const DampedLayer layer = choose();
    note_layer(layer.factor);
    const auto result = climb(start_of(weight_, record_.start, layer.hessian), layer);
    return better_of(plain, result);
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
    return result;
  }

  /// The start and the damping whose GPTQ has the lowest error on held-out rows.
  DampedLayer choose() {
    const bool one = options_.starts.size() == 1 && options_.dampings.size() == 1;
    record_.start = options_.starts.front();
    if (one || !held_out_.defined()) {
      if (!one) record_.notes.push_back("no held-out rows: the first start and damping were taken untried");
      return damped(options_.dampings.front());
    }
    const auto weight = trial_weight();
    DampedLayer best;
    double lowest = 0;
    for (const double damping : options_.dampings) {
      const DampedLayer layer = damped(damping);
      for (const RefineStart start : options_.starts) {
        const auto result =
            ordered_gptq(weight, start_of(weight, start, layer.hessian), layer.factor, options_.block_size);
        const double error = relative_output_error(weight, decompress(result), held_out_);
        if (best.hessian.defined() && error >= lowest) continue;
        lowest = error;
        best = layer;
        record_.start = start;
      }
    }
    return best;
  }

  at::Tensor trial_weight() const {
    const int64_t outputs = weight_.size(0), count = std::min(options_.trial_rows, outputs);
    return weight_.index_select(0, at::div(at::arange(count, at::kLong) * outputs, count, "floor"));
  }

  /// GPTQ, and rounds of descent and refit.
  CompressedWeight climb(const CompressedWeight& start, const DampedLayer& layer) {
    CodePanels panels(weight_, start, "refine");
    const ScaleRefit refit(start.qparams, layer.hessian, panels.group_size(),
                           {options_.scale_type, options_.zero_points});
    const DescentOptions descent{options_.sweeps, options_.block_size};
    const int steps = options_.rounds * (options_.refit ? 2 : 1);
    std::vector<std::vector<double>> objectives(static_cast<size_t>(panels.size()));
    panels.for_each([&](CodePanel& panel) {
      auto& mine = objectives[panel.index];
      gptq_panel(panel, layer.factor, panels.codec(), options_.block_size);
      if (steps == 0) return;
      panel.measure(layer.hessian);
      mine.push_back(panel.errors().sum().item<double>());
      for (int step = 0; step < steps; ++step) {
        const bool is_refit = options_.refit && step % 2 == 1;
        mine.push_back(
            (is_refit ? refit.run(panel) : descend_panel(panel, layer.hessian, panels.codec(), descent)).after);
      }
    });
    record_objectives(objectives, steps);
    return panels.result();
  }

  void record_objectives(const std::vector<std::vector<double>>& of_panels, int steps) {
    if (steps == 0) return;
    const double total = output_errors(weight_, {}, hessian_).sum().item<double>();
    for (int step = 0; step <= steps; ++step) {
      double sum = 0;
      for (const auto& panel : of_panels) sum += panel[step];
      record_.objectives.push_back(total > 0 ? sum / total : 0);
    }
    const int in_round = steps / options_.rounds;
    for (int round = 0; round < options_.rounds; ++round) {
      if (record_.objectives[(round + 1) * in_round] < record_.objectives[round * in_round]) ++record_.rounds;
    }
  }

  CompressedWeight better_of(const CompressedWeight& plain, const CompressedWeight& refined) {
    const auto measure = [&](const at::Tensor& hessian, OutputError& error) {
      error.before = relative_output_error(weight_, decompress(plain), hessian);
      error.after = relative_output_error(weight_, decompress(refined), hessian);
    };
    measure(hessian_, record_.error);
    if (held_out_.defined()) measure(held_out_, record_.held_out);
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
    record_.damping = factor.damping;
    record_.dead_columns = factor.dead;
    if (factor.attempts > 1) {
      record_.notes.push_back(fmt::format("a damping of {:.3g} was not enough: {:.3g} was",
                                          factor.damping / std::pow(10, factor.attempts - 1), factor.damping));
    }
    if (record_.rows < weight_.size(1)) {
      record_.notes.push_back(
          fmt::format("{} rows of calibration data for {} inputs: give more", record_.rows, weight_.size(1)));
    }
    if (factor.dead > 0)
      record_.notes.push_back(fmt::format("{} inputs are always 0: their weights are rounded", factor.dead));
  }

  at::Tensor weight_;
  QuantizationSpec spec_;
  const RefineOptions& options_;
  RefineRecord& record_;
  at::Tensor hessian_, held_out_;
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
