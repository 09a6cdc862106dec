#include "calibration/activation_taps.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "calibration/fingerprint.h"
#include "graph/carried_state.h"
#include "observers/quantile_range_observer.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

const ViewNode& node_of(const GraphView& view, const QuantizationPoint& point) {
  const auto* node = view.find(point.node);
  if (node) return *node;
  throw Error(ErrorCode::kInvalidArgument, "the annotations name a node that the model does not have", point.node);
}

bool is_inside_loop(const TapPoint& tap) {
  const auto* node = tap.use.user ? tap.use.user : tap.value->node();
  for (const auto* block = node->owningBlock(); block && block->owningNode();) {
    if (block->owningNode()->kind() == c10::prim::Loop) return true;
    block = block->owningNode()->owningBlock();
  }
  return false;
}

/// A point in a loop fires once per iteration. Averaging over iterations of different magnitude would clip the large
/// ones, so the range covers them all unless the user decided otherwise. The same holds for the samples of a model with
/// memory: they are steps of one sequence, or sequences whose clipped steps change all later ones.
void cover_all_iterations(RangeEstimatorParameters& estimator) {
  if (!estimator.min.aggregator_type) estimator.min.aggregator_type = AggregatorType::kMin;
  if (!estimator.max.aggregator_type) estimator.max.aggregator_type = AggregatorType::kMax;
}

/// Whether nobody said how the range is found.
bool is_default(const QuantizationPoint& point, const RangeEstimatorParameters& chosen) {
  return point.spec.observer == ObserverKind::kDefault && !point.spec.per_channel && !is_set(chosen);
}

bool is_model_input(const GraphView& view, const QuantizationPoint& point) {
  const ViewNode& node = node_of(view, point);
  const ViewEdge* edge = point.input_port ? view.input_edge(node, *point.input_port) : nullptr;
  return (edge ? view.node(edge->from) : node).kind == NodeKind::kInput;
}

std::unique_ptr<Observer> observer_of(const GraphView& view, const QuantizationPoint& point, bool repeats,
                                      const CalibrationOptions& options) {
  auto estimator = options.activations_range_estimator;
  if (!repeats && is_default(point, estimator)) {
    estimator = RangeEstimatorParameters::mean_minmax();
    if (point.spec.mode == QuantizationScheme::kSymmetric) estimator.max.statistics_type = StatisticsType::kAbsMax;
    return std::make_unique<QuantileRangeObserver>(estimator, options.batchwise, is_model_input(view, point));
  }
  if (repeats) cover_all_iterations(estimator);
  return make_observer(point.spec, point.kind, options.batchwise, estimator);
}

}  // namespace

std::string place_of(const QuantizationPoint& point) {
  return point.input_port ? fmt::format("{} input {}", point.node, *point.input_port) : point.node;
}

TapPoint tap_of(const GraphView& view, const QuantizationPoint& point) {
  const auto& node = node_of(view, point);
  TapPoint tap;
  if (!point.input_port) {
    tap.value = node.value;
  } else if (const auto* edge = view.input_edge(node, *point.input_port)) {
    tap.value = edge->value;
    tap.use = edge->use;
  }
  if (!tap.value) {
    throw Error(ErrorCode::kInvalidArgument, "the annotations name a tensor that does not exist", place_of(point));
  }
  return tap;
}

void require_no_nan(int64_t not_a_number, const at::Tensor& x, int64_t sample) {
  if (not_a_number == 0) return;
  throw Error(ErrorCode::kCalibration,
              fmt::format("calibration sample {} makes {} NaN values of {}", sample, not_a_number, x.numel()), "",
              "check the model and the data; the float model gives NaN here");
}

ActivationTaps::ActivationTaps(const Model& model, const GraphView& view, const Annotations& annotations,
                               const CalibrationOptions& options)
    : inplace_(options.inplace) {
  std::vector<TapPoint> places;
  for (const auto& point : annotations.points) {
    if (point.kind != PointKind::kActivation || !needs_statistics(point.spec)) continue;
    places.push_back(tap_of(view, point));
    Tap tap;
    tap.point = &point;
    tap.in_loop = is_inside_loop(places.back());
    taps_.push_back(std::move(tap));
  }
  for (const auto& extra : options.extra_taps) {
    places.push_back(extra.point);
    Tap tap;
    tap.observer = extra.observer;
    tap.node = extra.node;
    tap.in_loop = is_inside_loop(extra.point);
    taps_.push_back(std::move(tap));
  }
  runner_ = std::make_unique<TapRunner>(model, places, /*deterministic=*/true, options.weight_pages);
  const bool has_memory = runner_->stateful() || has_recurrent(view);
  for (auto& tap : taps_) {
    if (!tap.point) continue;
    tap.owned = observer_of(view, *tap.point, tap.in_loop || has_memory, options);
    tap.observer = tap.owned.get();
  }
}

std::string ActivationTaps::place(size_t tap) const {
  return taps_[tap].point ? place_of(*taps_[tap].point) : taps_[tap].node;
}

std::string ActivationTaps::name(size_t tap) const {
  return taps_[tap].point ? fmt::format("point {}", taps_[tap].point->id)
                          : fmt::format("extra {} {}", tap, taps_[tap].node);
}

void ActivationTaps::run(const Sample& sample, const Sink& sink) const {
  inplace_ ? run_inplace(sample, sink) : run_and_keep(sample, sink);
}

void ActivationTaps::run_and_keep(const Sample& sample, const Sink& sink) const {
  std::vector<std::pair<size_t, at::Tensor>> kept;
  // A copy, because operators that come later may write into the tensor.
  run_inplace(sample, [&](size_t tap, const at::Tensor& x) { kept.emplace_back(tap, x.clone()); });
  for (const auto& [tap, x] : kept) {
    try {
      sink(tap, x);
    } catch (const Error& error) {
      throw Error(error.code(), error.message(), place(tap), error.advice());
    }
  }
}

void ActivationTaps::run_inplace(const Sample& sample, const Sink& sink) const {
  std::exception_ptr failure;
  runner_->run(sample, [&](size_t tap, const at::Tensor& x) {
    if (failure || !x.defined() || !x.is_floating_point()) return;
    try {
      sink(tap, x);
    } catch (const Error& error) {
      failure = std::make_exception_ptr(Error(error.code(), error.message(), place(tap), error.advice()));
    } catch (...) {
      failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
}

void ActivationTaps::observe(const Sample& sample, int64_t index, Turn& turn) {
  run(sample, [&](size_t tap, const at::Tensor& x) {
    turn.in_order(tap, taps_[tap].in_loop, [&] {
      taps_[tap].observer->observe(x);
      if (taps_[tap].point) taps_[tap].distinct.observe(x);
      require_no_nan(taps_[tap].observer->not_a_number(), x, index);
    });
  });
}

std::vector<std::pair<std::string, std::vector<at::Tensor>>> ActivationTaps::states() const {
  std::vector<std::pair<std::string, std::vector<at::Tensor>>> result;
  for (size_t i = 0; i < taps_.size(); ++i) result.emplace_back(name(i), taps_[i].observer->state());
  return result;
}

void ActivationTaps::set_states(const std::vector<std::pair<std::string, std::vector<at::Tensor>>>& states) {
  if (states.size() != taps_.size()) {
    throw Error(ErrorCode::kCalibration,
                fmt::format("the saved statistics have {} observers instead of {}", states.size(), taps_.size()));
  }
  for (size_t i = 0; i < taps_.size(); ++i) {
    if (states[i].first != name(i)) {
      throw Error(ErrorCode::kCalibration,
                  fmt::format("the saved statistics have \"{}\" instead of \"{}\"", states[i].first, name(i)));
    }
    taps_[i].observer->set_state(states[i].second);
  }
}

void ActivationTaps::move_into(StatTable& table) {
  for (auto& tap : taps_) {
    if (!tap.point) continue;
    if (const auto infinite = tap.observer->non_finite()) {
      table.warnings.push_back(
          fmt::format("{} infinite values at {} were left out of its range", infinite, place_of(*tap.point)));
    }
    if (tap.distinct.seen() > 0) table.distinct.emplace(tap.point->id, tap.distinct);
    if (tap.observer->batches() > 0) table.observers[tap.point->id] = std::move(tap.owned);
  }
}

}  // namespace tsquant
