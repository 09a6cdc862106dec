#include "flows/compression/layer_inputs.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "calibration/calibrator.h"
#include "calibration/statistics_cache.h"
#include "observers/saved_state.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Adds one sample: t = (t + sum x^2) / numel(x), and the sums of the rest.
void add_sample(InputStatistics& total, const double* one) {
  ++total.samples;
  total.hessian_trace = total.hessian_trace / one[4] + one[0];
  total.mean_variance += one[1];
  total.max_variance += one[2];
  total.mean_magnitude += one[3];
}

}  // namespace

at::Tensor LayerInputs::some_rows(const at::Tensor& x) const {
  constexpr int64_t kMost = 2;
  const auto last = x.detach().movedim(channel_axis_, -1);
  const auto rows = last.reshape({-1, last.size(-1)});
  const int64_t count = rows.size(0), kept = std::min(kMost, count);
  const auto places = at::div((at::arange(kept, at::kLong) * 2 + 1) * count, 2 * kept, "floor");
  return rows.index_select(0, places).to(at::kFloat);
}

std::vector<at::Tensor> LayerInputs::summary(const at::Tensor& x) const {
  if (x.numel() == 0 || x.dim() == 0) {
    return {counter_tensor(0, 0, 0), at::empty({0}), at::empty({0}, at::kLong), at::zeros({5}, at::kDouble)};
  }
  LayerSamples sample;
  sample.add(x, channel_axis_);
  const auto channels_last = x.transpose(channel_axis_, -1);
  InputStatistics one;
  one.add(channels_last.dim() == 1 ? channels_last.unsqueeze(0) : channels_last);
  std::vector<at::Tensor> result{
      counter_tensor(1, 0, 0), sample.means().reshape({-1}), at::tensor(sample.rows(), at::kLong),
      at::tensor(
          {one.hessian_trace, one.mean_variance, one.max_variance, one.mean_magnitude, static_cast<double>(x.numel())},
          at::kDouble)};
  if (keeps_rows_) result.push_back(some_rows(x));
  return result;
}

void LayerInputs::replay(const std::vector<at::Tensor>& summary) {
  if (summary.at(0).data_ptr<int64_t>()[0] == 0) return;
  ++batches_;
  means_.push_back(summary.at(1).clone());
  rows_.push_back(summary.at(2).item<int64_t>());
  add_sample(statistics_, summary.at(3).contiguous().data_ptr<double>());
  if (keeps_rows_) kept_.push_back(summary.at(4).clone());
}

void LayerInputs::merge(const Observer& other) {
  const auto& that = dynamic_cast<const LayerInputs&>(other);
  means_.insert(means_.end(), that.means_.begin(), that.means_.end());
  rows_.insert(rows_.end(), that.rows_.begin(), that.rows_.end());
  kept_.insert(kept_.end(), that.kept_.begin(), that.kept_.end());
  statistics_.samples += that.statistics_.samples;
  statistics_.hessian_trace += that.statistics_.hessian_trace;
  statistics_.mean_variance += that.statistics_.mean_variance;
  statistics_.max_variance += that.statistics_.max_variance;
  statistics_.mean_magnitude += that.statistics_.mean_magnitude;
  add_counters(other);
}

Range LayerInputs::range() const {
  if (means_.empty()) throw Error(ErrorCode::kCalibration, "no inputs were collected");
  const auto means = at::stack(means_);
  return {means.amin(0), means.amax(0)};
}

std::vector<at::Tensor> LayerInputs::state() const {
  const auto& s = statistics_;
  std::vector<at::Tensor> result{
      counters(), means_.empty() ? at::empty({0, 0}) : at::stack(means_), at::tensor(rows_, at::kLong),
      at::tensor({s.hessian_trace, s.mean_variance, s.max_variance, s.mean_magnitude}, at::kDouble)};
  if (keeps_rows_) result.push_back(kept_.empty() ? at::empty({0, 0}) : at::cat(kept_));
  return result;
}

void LayerInputs::set_state(const std::vector<at::Tensor>& state) {
  const SavedState saved(state, keeps_rows_ ? 5 : 4);
  const at::Tensor counts = saved.counters(0), means = saved.at(1, at::kFloat, 2), rows = saved.at(2, at::kLong, 1),
                   sums = saved.at(3, at::kDouble, 1);
  require_saved(means.size(0) == rows.numel() && sums.numel() == 4 && are_counts(rows) && are_counts(sums) &&
                    counts.data_ptr<int64_t>()[0] == rows.numel() && at::isfinite(means).all().item<bool>(),
                "the inputs of a layer are wrong");
  kept_.clear();
  if (keeps_rows_) {
    const at::Tensor kept = saved.at(4, at::kFloat, 2);
    require_saved(kept.size(1) == means.size(1) && at::isfinite(kept).all().item<bool>(),
                  "the kept inputs of a layer are wrong");
    if (kept.numel() > 0) kept_.push_back(kept);
  }
  set_counters(counts);
  means_ = means.numel() == 0 ? std::vector<at::Tensor>() : means.unbind(0);
  rows_.assign(rows.data_ptr<int64_t>(), rows.data_ptr<int64_t>() + rows.numel());
  const double* values = sums.data_ptr<double>();
  statistics_ = {static_cast<int64_t>(rows_.size()), values[0], values[1], values[2], values[3]};
}

LayerSamples LayerInputs::samples() const {
  if (means_.empty()) return {};
  return {at::stack(means_), rows_};
}

at::Tensor LayerInputs::kept_rows() const { return kept_.empty() ? at::Tensor() : at::cat(kept_).t(); }

LayerSamples samples_of(const WeightLayer& layer) {
  if (!layer.inputs) return {};
  const LayerSamples samples = layer.inputs->samples();
  return layer.awq_scale.defined() ? samples.divided(layer.awq_scale) : samples;
}

namespace {

constexpr const char* kInputsStep = "inputs";

/// What was measured: the states of all inputs, the number of samples, the warnings.
LayerResult result_of(const std::vector<std::shared_ptr<LayerInputs>>& inputs, const StatTable& statistics) {
  LayerResult result;
  for (const auto& of_layer : inputs) {
    for (const auto& tensor : of_layer->state()) result.tensors.push_back(tensor);
  }
  result.values = {{"samples", statistics.samples}, {"warnings", statistics.warnings}};
  return result;
}

void restore_inputs(const LayerResult& result, const std::vector<std::shared_ptr<LayerInputs>>& inputs) {
  const size_t parts = result.tensors.size() / std::max<size_t>(1, inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto begin = result.tensors.begin() + static_cast<std::ptrdiff_t>(i * parts);
    inputs[i]->set_state({begin, begin + static_cast<std::ptrdiff_t>(parts)});
  }
}

}  // namespace

void collect_layer_inputs(const Model& model, const GraphView& view, std::vector<WeightLayer>& layers,
                          const CompressPt2eOptions& options, LayerResults& results, RankGroup& ranks, Report& report) {
  CalibrationOptions calibration;
  calibration.subset_size = options.subset_size;
  calibration.progress = options.progress;
  // A dry run promises to need little memory; else every sample would read the file again.
  if (options.dry_run) calibration.weight_pages = WeightPages::kGiveBack;
  calibration.collection = "layer inputs";
  calibration.exchange = ranks.exchange();
  const std::string& path = options.advanced_parameters.statistics_path;
  // The files serve runs with other options too.
  const bool keeps_rows = options.target_size || options.target_bits_per_weight || !path.empty();
  if (!path.empty()) {
    calibration.cache = std::make_shared<StatisticsCache>(StatisticsCache::Paths{"", "", path}, ranks.exchange());
  }
  std::map<std::pair<const torch::jit::Value*, int64_t>, std::shared_ptr<LayerInputs>> shared;
  std::vector<std::shared_ptr<LayerInputs>> all;
  for (WeightLayer& layer : layers) {
    if (!layer.activation) continue;
    auto& inputs = shared[{layer.activation->value, layer.channel_axis}];
    if (!inputs) {
      inputs = std::make_shared<LayerInputs>(layer.channel_axis, keeps_rows);
      all.push_back(inputs);
      calibration.extra_taps.push_back(
          {{layer.activation->value, layer.activation->use}, inputs.get(), layer.node->name});
    }
    layer.inputs = inputs;
  }
  // A folder of statistics keeps them already.
  const bool keeps = path.empty() && ranks.is_first();
  std::vector<c10::optional<LayerResult>> found(1);
  if (keeps) found[0] = results.find(kInputsStep, "");
  ranks.complete(found);
  if (found[0]) {
    restore_inputs(*found[0], all);
  } else {
    ranks.run_together([&] { found[0] = result_of(all, calibrate(model, view, {}, *options.dataset, calibration)); });
    if (keeps) results.keep(kInputsStep, "", *found[0]);
  }
  const auto& values = found[0]->values;
  report.samples = values.at("samples").get<int64_t>();
  for (const auto& warning : values.at("warnings")) report.warnings.push_back(warning.get<std::string>());
}

}  // namespace tsquant
