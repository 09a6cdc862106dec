#include "calibration/calibrator.h"

#include <fmt/format.h>

#include <exception>
#include <typeinfo>

#include "calibration/activation_taps.h"
#include "calibration/fingerprint.h"
#include "calibration/rank_agreement.h"
#include "calibration/sample_reader.h"
#include "calibration/sharded_run.h"
#include "calibration/statistics_cache.h"
#include "graph/params.h"
#include "run/sample_scheduler.h"
#include "run/single_thread_guard.h"
#include "tsquant/distributed.h"
#include "tsquant/error.h"

namespace tsquant {

int64_t checked_sample_count(const Dataset& dataset, int64_t subset_size, std::vector<std::string>& warnings) {
  if (subset_size < 1) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("subset_size is {}", subset_size), "", "use at least 1");
  }
  const int64_t available = dataset.count(subset_size);
  if (available == 0) {
    throw Error(ErrorCode::kDataset, "the calibration data set is empty", "", "give at least one sample");
  }
  if (available == subset_size) return subset_size;
  warnings.push_back(fmt::format("calibration: {} samples were asked for, the data set has {}; all of them were used",
                                 subset_size, available));
  return available;
}

namespace {

constexpr const char* kPhase = "calibrate";

void observe_weight(const Model& model, const GraphView& view, const QuantizationPoint& point,
                    const RangeEstimatorParameters& estimator, StatTable& table) {
  const auto param = param_of(model, tap_of(view, point).value);
  if (!param || !param->tensor.defined()) {
    table.warnings.push_back(fmt::format(
        "the weight of {} is computed by the graph or written by the module, so it stays in float", place_of(point)));
    return;
  }
  const std::string place = param->name.empty() ? place_of(point) : param->name;
  auto observer = make_observer(point.spec, PointKind::kWeight, false, estimator);
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

/// What decides the activation statistics, without the data.
std::map<std::string, std::string> keys_of(const Model& model, const Annotations& annotations,
                                           const CalibrationOptions& options, int64_t total) {
  Digest extra;
  for (const auto& tap : options.extra_taps) {
    extra.add(tap.node);
    extra.add(std::string(typeid(*tap.observer).name()));
  }
  std::map<std::string, std::string> keys{
      {"collection", options.collection},
      {"model", fingerprint(model)},
      {"subset_size", fmt::to_string(total)},
      {"batchwise_statistics", options.batchwise ? "true" : "false"},
      {"activations_range_estimator_params", describe(options.activations_range_estimator)},
      {"points", fingerprint(annotations)},
      {"extra_statistics", fmt::format("{} {}", options.extra_taps.size(), extra.text())}};
  for (const auto& [name, value] : options.settings) keys[kSettingPrefix + name] = value;
  return keys;
}

/// One run over the data: read from the cache, or collected here or by several processes together.
class Collection {
 public:
  Collection(const Model& model, const Annotations& annotations, const Dataset& dataset,
             const CalibrationOptions& options, int64_t total)
      : model_(model),
        annotations_(annotations),
        options_(options),
        total_(total),
        reader_(model, dataset, total, options.cache != nullptr) {}

  void fill(ActivationTaps& taps) {
    report(0);
    // Without taps one sample still proves that the data fit the model.
    Turn alone;
    if (taps.empty()) return taps.observe(reader_.get(0), 0, alone);
    if (!options_.cache && !options_.exchange) return collect(taps);
    auto keys = keys_of(model_, annotations_, options_, total_);
    if (options_.exchange) check_ranks(keys);
    if (!options_.cache) return collect(taps);
    if (read(taps, keys)) return report(total_);
    collect(taps);
    keys["data"] = data_key();
    options_.cache->add({keys, taps.states()});
  }

 private:
  void report(int64_t done) const {
    if (!options_.progress || options_.progress(kPhase, done, total_)) return;
    throw Error(ErrorCode::kCancelled, fmt::format("calibration was cancelled after {} of {} samples", done, total_));
  }

  void check_ranks(std::map<std::string, std::string> keys) const {
    keys["weights_range_estimator_params"] = describe(options_.weights_range_estimator);
    require_equal_ranks(*options_.exchange, keys);
  }

  std::string data_key() {
    std::string key = options_.cache->known_data(total_);
    if (!key.empty()) return key;
    key = reader_.data_key(options_.exchange.get());
    options_.cache->remember_data(total_, key);
    return key;
  }

  bool read(ActivationTaps& taps, std::map<std::string, std::string> keys) {
    if (!options_.cache->may_read()) return false;
    keys["data"] = data_key();
    const auto* found = options_.cache->find(keys);
    if (found) taps.set_states(found->observers);
    return found != nullptr;
  }

  void collect(ActivationTaps& taps) {
    const SampleSource source{[this](int64_t index) { return reader_.get(index); },
                              [this](int64_t done) { report(done); }};
    if (options_.exchange) return run_sharded(taps, total_, source, *options_.exchange);
    const auto observe = [&](int64_t index, Turn& turn) {
      Sample sample;
      // Sources such as loaders give their items in order only.
      turn.in_order(taps.size(), false, [&] { sample = source.get(index); });
      taps.observe(sample, index, turn);
    };
    run_samples(total_, !taps.stateful(), observe, source.report);
  }

  const Model& model_;
  const Annotations& annotations_;
  const CalibrationOptions& options_;
  const int64_t total_;
  SampleReader reader_;
};

}  // namespace

StatTable calibrate(const Model& model, const GraphView& view, const Annotations& annotations, const Dataset& dataset,
                    const CalibrationOptions& options) {
  const SingleThreadGuard deterministic;
  StatTable table;
  const int64_t wanted = checked_sample_count(dataset, options.subset_size, table.warnings);
  ActivationTaps taps(model, view, annotations, options);
  table.samples = taps.empty() ? 1 : wanted;
  Collection(model, annotations, dataset, options, table.samples).fill(taps);
  taps.move_into(table);
  observe_weights(model, view, annotations, options.weights_range_estimator, table);
  return table;
}

void observe_weights(const Model& model, const GraphView& view, const Annotations& annotations,
                     const RangeEstimatorParameters& estimator, StatTable& table) {
  const ParamScope scope(model);
  for (const auto& point : annotations.points) {
    if (point.kind != PointKind::kWeight || !needs_statistics(point.spec) || table.observers.count(point.id)) continue;
    observe_weight(model, view, point, estimator, table);
  }
}

}  // namespace tsquant
