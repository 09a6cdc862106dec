#include "algorithms/bias_correction.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <set>

#include "algorithms/channel_mean.h"
#include "algorithms/kernel_mean.h"
#include "algorithms/layerwise_run.h"
#include "graph/params.h"
#include "run/single_thread_guard.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

constexpr double kThreshold = 1000;  // nncf: BIAS_CORRECTION_THRESHOLD
constexpr const char* kPhase = "bias_correction";

/// A layer in the model that is corrected and in the copy that runs, with what is known about its float result.
struct Target {
  BiasLayer layer, running;
  const QParams* qparams = nullptr;
  KernelGeometry geometry;
  std::unique_ptr<ChannelMean> float_output;  ///< not for the simulated reference
  at::Tensor own_bias;                        ///< before the correction; undefined when there is none
  std::vector<size_t> corrected_before;       ///< targets whose correction the inputs contain; kCollected only
};

/// nncf: _get_bias_shift_magnitude
double largest_relative_shift(const at::Tensor& shift, const at::Tensor& bias) {
  const double eps = std::numeric_limits<float>::epsilon();
  return shift.view_as(bias).div(bias + eps).abs().max().item<double>();
}

at::Tensor own_bias(const Model& model, const BiasLayer& layer) {
  const auto bias = param_of(model, layer.node->input(WeightedLayer::kBias));
  return bias ? bias->tensor : at::Tensor();
}

/// A copy of the model whose quantized weights hold what their quantizers leave of them.
Model with_quantized_weights(const Model& model, const Annotations& annotations, const QParamTable& qparams) {
  Model copy = model.clone();
  const GraphView view(copy);
  const ParamScope scope(copy);
  for (const auto& point : annotations.points) {
    const auto found = qparams.find(point.id);
    if (point.kind != PointKind::kWeight || !point.input_port || found == qparams.end()) continue;
    const ViewNode* node = view.find(point.node);
    const ViewEdge* edge = node ? view.input_edge(*node, *point.input_port) : nullptr;
    const auto weight = edge && edge->use.user ? param_of(copy, edge->value) : c10::nullopt;
    if (!weight || !weight->tensor.is_floating_point()) continue;
    const auto used = dequantize(quantize(weight->tensor, found->second), found->second);
    set_param(copy, edge->use.user, edge->use.offset, used.to(weight->tensor.scalar_type()));
  }
  return copy;
}

/// Which corrections NNCF's cached input of each target contains: those of the first of the targets that it depends on
/// directly, and of that one's input.
void follow_first_paths(const GraphView& view, std::vector<Target>& targets) {
  std::map<int64_t, size_t> by_node;
  for (size_t i = 0; i < targets.size(); ++i) by_node[view.find(targets[i].layer.name)->id] = i;
  for (const auto& [start, index] : by_node) {
    std::set<int64_t> seen{start};
    std::vector<int64_t> open{start};
    c10::optional<size_t> first;
    while (!open.empty()) {
      const auto& node = view.node(open.back());
      open.pop_back();
      for (const int64_t edge : node.in_edges) {
        const int64_t from = view.edge(edge).from;
        const auto found = by_node.find(from);
        if (found != by_node.end()) {
          first = std::min(first.value_or(found->second), found->second);
        } else if (seen.insert(from).second) {
          open.push_back(from);
        }
      }
    }
    if (!first) continue;
    targets[index].corrected_before = targets[*first].corrected_before;
    targets[index].corrected_before.push_back(*first);
  }
}

/// The shift of one layer from what its input or result was in the run.
class ShiftMeter {
 public:
  ShiftMeter(const Target& target, const Model& model) : target_(target), model_(model) {
    if (target.float_output) {
      output_ = std::make_unique<ChannelMean>(target.layer.axis);
    } else {
      input_ = std::make_unique<KernelMean>(target.geometry);
    }
  }

  void see(const at::Tensor& input, const at::Tensor& result) {
    if (output_) output_->observe(result);
    if (input_) input_->observe(input);
  }

  /// Undefined when the layer was not reached.
  at::Tensor shift() const {
    if (output_) {
      if (output_->batches() == 0 || target_.float_output->batches() == 0) return {};
      return target_.float_output->mean() - output_->mean();
    }
    if (input_->batches() == 0) return {};
    const auto weight = param_of(model_, target_.layer.node->input(WeightedLayer::kWeight))->tensor;
    return mean_weight_error(*input_, weight, *target_.qparams).to(c10::kFloat);
  }

 private:
  const Target& target_;
  const Model& model_;
  std::unique_ptr<ChannelMean> output_;
  std::unique_ptr<KernelMean> input_;
};

class Correction {
 public:
  Correction(Model& model, const GraphView& view, const Annotations& annotations, const QParamTable& qparams,
             const BiasCorrectionParameters& parameters)
      : model_(model),
        qparams_(qparams),
        parameters_(parameters),
        running_(with_quantized_weights(model, annotations, qparams)) {
    const GraphView running_view(running_);
    const auto layers = find_bias_layers(model, view, annotations, parameters.apply_for_all_nodes);
    std::unordered_map<std::string, BiasLayer> copies;
    for (auto& copy : find_bias_layers(running_, running_view, annotations, parameters.apply_for_all_nodes)) {
      copies.emplace(copy.name, std::move(copy));
    }
    const ParamScope scope(model);
    for (const auto& layer : layers) {
      const auto copy = copies.find(layer.name);
      const auto found = qparams.find(layer.point);
      const auto weight = param_of(model, layer.node->input(WeightedLayer::kWeight));
      if (copy == copies.end() || found == qparams.end() || !weight) continue;
      Target target{layer, std::move(copy->second), &found->second, {}, nullptr, own_bias(model, layer), {}};
      if (parameters.reference != BiasReference::kSimulated) {
        target.float_output = std::make_unique<ChannelMean>(layer.axis);
      } else if (const auto geometry = kernel_geometry(model, layer.node, weight->tensor)) {
        target.geometry = *geometry;
      } else {
        continue;
      }
      targets_.push_back(std::move(target));
    }
    if (as_nncf()) follow_first_paths(view, targets_);
  }

  std::vector<BiasRecord> run(const GraphView& view, const Dataset& dataset, CalibrationOptions calibration) {
    calibration.subset_size = std::min(std::max<int64_t>(calibration.subset_size / 5, 1), dataset.length());
    if (targets_.empty()) return {};
    collect(view, dataset, calibration);
    report(calibration, 0);
    std::vector<torch::jit::Node*> nodes;
    for (const auto& target : targets_) nodes.push_back(target.running.node);
    if (!as_nncf() && LayerwiseRun::possible(running_, nodes)) {
      run_together(nodes, dataset, calibration);
    } else {
      run_per_layer(dataset, calibration);
    }
    return std::move(records_);
  }

 private:
  void collect(const GraphView& view, const Dataset& dataset, CalibrationOptions calibration) {
    calibration.extra_taps.clear();
    for (const auto& target : targets_) {
      if (!target.float_output) continue;
      calibration.extra_taps.push_back({target.layer.output_tap, target.float_output.get(), target.layer.name});
    }
    calibration.collection = kPhase;
    if (!calibration.extra_taps.empty()) calibrate(model_, view, {}, dataset, calibration);
  }

  void report(const CalibrationOptions& calibration, size_t done) const {
    const auto total = static_cast<int64_t>(targets_.size());
    if (!calibration.progress || calibration.progress(kPhase, static_cast<int64_t>(done), total)) return;
    throw Error(ErrorCode::kCancelled, fmt::format("bias correction was cancelled after {} of {} layers", done, total));
  }

  void run_together(const std::vector<torch::jit::Node*>& nodes, const Dataset& dataset,
                    const CalibrationOptions& calibration) {
    LayerwiseRun layerwise(running_, nodes);
    const ParamScope scope(model_);
    for (int64_t i = 0; i < calibration.subset_size; ++i) layerwise.add_sample(dataset.get(i));
    for (size_t i = 0; i < targets_.size(); ++i) {
      const Target& target = targets_[i];
      ShiftMeter meter(target, model_);
      layerwise.advance(i, WeightedLayer::kInput,
                        [&](const auto& input, const auto& result) { meter.see(input, result); });
      const at::Tensor shift = correct(target, meter.shift());
      if (shift.defined()) layerwise.add_to_results(shift, target.layer.axis);
      report(calibration, i + 1);
    }
  }

  void run_per_layer(const Dataset& dataset, const CalibrationOptions& calibration) {
    std::vector<size_t> all;
    for (size_t i = 0; i < targets_.size(); ++i) {
      const Target& target = targets_[i];
      write_biases(as_nncf() ? target.corrected_before : all);
      ShiftMeter meter(target, model_);
      const TapRunner runner(running_, {target.running.input_tap, target.running.output_tap}, /*deterministic=*/true);
      at::Tensor input;
      const auto sink = [&](size_t tap, const at::Tensor& x) {
        if (tap == 0) input = x;
        if (tap == 1) meter.see(input, x);
      };
      for (int64_t sample = 0; sample < calibration.subset_size; ++sample) runner.run(dataset.get(sample), sink);
      correct(target, meter.shift());
      all.push_back(i);
      report(calibration, i + 1);
    }
  }

  /// Gives the running model the corrected biases of these targets, and the others their own.
  void write_biases(const std::vector<size_t>& corrected) {
    for (size_t i = 0; i < targets_.size(); ++i) {
      const Target& target = targets_[i];
      const bool wanted = std::find(corrected.begin(), corrected.end(), i) != corrected.end();
      const auto bias = wanted ? own_bias(model_, target.layer) : target.own_bias;
      const auto present = own_bias(running_, target.running);
      if (!bias.defined() && !present.defined()) continue;
      set_bias(running_, target.running.node, bias.defined() ? bias : at::zeros_like(present));
    }
  }

  bool as_nncf() const { return parameters_.reference == BiasReference::kCollected; }

  /// Writes the corrected bias into the model and a record. Returns what was added to the bias; undefined for nothing.
  at::Tensor correct(const Target& target, const at::Tensor& shift) {
    if (!shift.defined()) return {};
    const auto bias = bias_of(model_, target.layer, shift.numel());
    const double magnitude =
        target.layer.has_bias ? largest_relative_shift(shift, bias) : std::numeric_limits<double>::infinity();
    const auto threshold = target.float_output ? c10::optional<double>(kThreshold) : c10::nullopt;
    records_.push_back(correct_bias(model_, target.layer, qparams_, parameters_, shift, magnitude, threshold));
    return records_.back().added;
  }

  Model& model_;
  const QParamTable& qparams_;
  const BiasCorrectionParameters& parameters_;
  Model running_;
  std::vector<Target> targets_;
  std::vector<BiasRecord> records_;
};

}  // namespace

std::vector<BiasRecord> bias_correction(Model& model, const GraphView& view, const Annotations& annotations,
                                        const QParamTable& qparams, const Dataset& dataset,
                                        const BiasCorrectionParameters& parameters, CalibrationOptions calibration) {
  at::NoGradGuard no_grad;
  const SingleThreadGuard deterministic;
  return Correction(model, view, annotations, qparams, parameters).run(view, dataset, std::move(calibration));
}

}  // namespace tsquant
