#include "calibration/calibrator.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <exception>

#include "calibration/rows.h"
#include "graph/params.h"
#include "graph/tap_runner.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

constexpr const char* kPhase = "calibrate";

std::string place_of(const QuantizationPoint& point) {
  return point.input_port ? fmt::format("{} input {}", point.node, *point.input_port) : point.node;
}

const ViewNode& node_of(const GraphView& view, const QuantizationPoint& point) {
  const auto* node = view.find(point.node);
  if (node) return *node;
  throw Error(ErrorCode::kInvalidArgument, "the annotations name a node that the model does not have", point.node);
}

/// The tensor of a point: an edge into an operator, or what a node produces.
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

int64_t checked_sample_count(const Dataset& dataset, int64_t subset_size, std::vector<std::string>& warnings) {
  if (subset_size < 1) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("subset_size is {}", subset_size), "", "use at least 1");
  }
  if (dataset.length() == 0) {
    throw Error(ErrorCode::kDataset, "the calibration data set is empty", "", "give at least one sample");
  }
  if (dataset.length() >= subset_size) return subset_size;
  warnings.push_back(fmt::format("calibration: {} samples were asked for, the data set has {}; all of them were used",
                                 subset_size, dataset.length()));
  return dataset.length();
}

void check_finite(const c10::IValue& value, const std::string& name, int64_t index) {
  if (value.isTensor()) {
    const auto& tensor = value.toTensor();
    if (!tensor.defined() || !tensor.is_floating_point() || tensor.numel() == 0) return;
    const auto rows = to_rows(tensor, c10::nullopt, false).values;
    if (row_extrema(rows).finite()) return;
    const auto bad = count_non_finite(rows);
    throw Error(ErrorCode::kCalibration,
                fmt::format("calibration sample {} holds {} NaN and {} infinite values", index, bad.nan, bad.infinite),
                name, "remove the sample or repair the data");
  }
  if (value.isList()) {
    for (const c10::IValue& item : value.toListRef()) check_finite(item, name, index);
  } else if (value.isTuple()) {
    for (const auto& item : value.toTupleRef().elements()) check_finite(item, name, index);
  } else if (value.isGenericDict()) {
    for (const auto& item : value.toGenericDict()) check_finite(item.value(), name, index);
  }
}

void check_finite(const Sample& sample, const std::vector<std::string>& names, int64_t index) {
  for (size_t i = 0; i < sample.args.size(); ++i) {
    check_finite(sample.args[i], i < names.size() ? names[i] : fmt::format("argument {}", i), index);
  }
  for (const auto& [name, value] : sample.kwargs) check_finite(value, name, index);
}

void observe_weight(const Model& model, const GraphView& view, const QuantizationPoint& point,
                    const CalibrationOptions& options, StatTable& table) {
  const auto param = param_of(model, tap_of(view, point).value);
  if (!param || !param->tensor.defined()) {
    table.warnings.push_back(fmt::format(
        "the weight of {} is computed by the graph or written by the module, so it stays in float", place_of(point)));
    return;
  }
  const std::string place = param->name.empty() ? place_of(point) : param->name;
  auto observer = make_observer(point.spec, PointKind::kWeight, false, options.weights_range_estimator);
  try {
    observer->observe(param->tensor);
  } catch (const Error& error) {
    throw Error(error.code(), error.message(), place, error.advice());
  }
  if (observer->non_finite() > 0) {
    throw Error(ErrorCode::kCalibration,
                fmt::format("the weight holds {} NaN and {} infinite values", observer->not_a_number(),
                            observer->non_finite() - observer->not_a_number()),
                place, "repair the model or ignore this operator");
  }
  if (observer->batches() == 0) {
    table.warnings.push_back(fmt::format("the weight of {} is empty, so it stays in float", place_of(point)));
    return;
  }
  table.observers[point.id] = std::move(observer);
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
/// ones, so the range covers them all unless the user decided otherwise.
void cover_all_iterations(RangeEstimatorParameters& estimator) {
  if (!estimator.min.aggregator_type) estimator.min.aggregator_type = AggregatorType::kMin;
  if (!estimator.max.aggregator_type) estimator.max.aggregator_type = AggregatorType::kMax;
}

/// The activation points of a run and their observers. Errors inside the interpreter would lose their type, so the
/// first one is kept and thrown after the sample.
class ActivationTaps {
 public:
  ActivationTaps(const Model& model, const GraphView& view, const Annotations& annotations,
                 const CalibrationOptions& options) {
    std::vector<TapPoint> taps;
    for (const auto& point : annotations.points) {
      if (point.kind != PointKind::kActivation || point.spec.fixed_scale) continue;
      taps.push_back(tap_of(view, point));
      points_.push_back(&point);
      auto estimator = options.activations_range_estimator;
      if (is_inside_loop(taps.back())) cover_all_iterations(estimator);
      observers_.push_back(make_observer(point.spec, point.kind, options.batchwise, estimator));
    }
    for (const auto& extra : options.extra_taps) taps.push_back(extra.point);
    extra_taps_ = options.extra_taps;
    runner_ = std::make_unique<TapRunner>(model, taps);
  }

  bool empty() const { return points_.empty() && extra_taps_.empty(); }

  void run(const Sample& sample, int64_t index) {
    failure_ = nullptr;
    runner_->run(sample, [this, index](size_t tap, const at::Tensor& x) { observe(tap, x, index); });
    if (failure_) std::rethrow_exception(failure_);
  }

  void move_into(StatTable& table) {
    for (size_t i = 0; i < points_.size(); ++i) {
      if (const auto infinite = observers_[i]->non_finite()) {
        table.warnings.push_back(
            fmt::format("{} infinite values at {} were left out of its range", infinite, place_of(*points_[i])));
      }
      if (observers_[i]->batches() > 0) table.observers[points_[i]->id] = std::move(observers_[i]);
    }
  }

 private:
  void observe(size_t tap, const at::Tensor& x, int64_t index) {
    if (failure_ || !x.defined() || !x.is_floating_point()) return;
    const bool is_point = tap < points_.size();
    const ExtraTap* extra = is_point ? nullptr : &extra_taps_[tap - points_.size()];
    const auto place = is_point ? place_of(*points_[tap]) : extra->node;
    Observer& observer = is_point ? *observers_[tap] : *extra->observer;
    try {
      observer.observe(x);
      if (const auto count = observer.not_a_number()) {
        throw Error(ErrorCode::kCalibration,
                    fmt::format("calibration sample {} makes {} NaN values of {}", index, count, x.numel()), "",
                    "check the model and the data; the float model gives NaN here");
      }
    } catch (const Error& error) {
      failure_ = std::make_exception_ptr(Error(error.code(), error.message(), place, error.advice()));
    } catch (...) {
      failure_ = std::current_exception();
    }
  }

  std::vector<const QuantizationPoint*> points_;
  std::vector<std::unique_ptr<Observer>> observers_;
  std::vector<ExtraTap> extra_taps_;
  std::unique_ptr<TapRunner> runner_;
  std::exception_ptr failure_;
};

void report_progress(const CalibrationOptions& options, int64_t done, int64_t total) {
  if (!options.progress || options.progress(kPhase, done, total)) return;
  throw Error(ErrorCode::kCancelled, fmt::format("calibration was cancelled after {} of {} samples", done, total));
}

}  // namespace

StatTable calibrate(const Model& model, const GraphView& view, const Annotations& annotations, const Dataset& dataset,
                    const CalibrationOptions& options) {
  StatTable table;
  int64_t total = checked_sample_count(dataset, options.subset_size, table.warnings);
  ActivationTaps taps(model, view, annotations, options);
  // Without activation points one sample still proves that the data fit the model.
  if (taps.empty()) total = 1;

  const auto names = model.input_names();
  report_progress(options, 0, total);
  for (int64_t i = 0; i < total; ++i) {
    const auto sample = dataset.get(i);
    check_finite(sample, names, i);
    taps.run(sample, i);
    report_progress(options, i + 1, total);
  }
  table.samples = total;
  taps.move_into(table);
  for (const auto& point : annotations.points) {
    if (point.kind == PointKind::kWeight && !point.spec.fixed_scale) observe_weight(model, view, point, options, table);
  }
  return table;
}

}  // namespace tsquant
