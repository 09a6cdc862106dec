#include "flows/accuracy_control/evaluator.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>

#include "evaluation/runnable.h"
#include "run/tap_runner.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<int64_t> all_indices(const Dataset& data) {
  std::vector<int64_t> indices(static_cast<size_t>(data.length()));
  std::iota(indices.begin(), indices.end(), int64_t{0});
  return indices;
}

void check_count(size_t given, size_t expected, const char* what) {
  if (given == expected) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("the validation function returned {} {} for {} samples", given, what, expected),
              "validation_fn", fmt::format("return one entry per index, or none"));
}

double squares(const at::Tensor& x) { return x.square().sum().item<double>(); }

}  // namespace

ValidationModel::ValidationModel(const Model& model) : model_(model) { reset(); }
ValidationModel::~ValidationModel() = default;

void ValidationModel::reset() { runner_ = std::make_unique<TapRunner>(model_, std::vector<TapPoint>{}); }

c10::IValue ValidationModel::operator()(const Sample& sample) const { return runner_->run(sample, {}); }

double normalized_mse(const std::vector<at::Tensor>& reference, const std::vector<at::Tensor>& approximate) {
  double sum = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    if (i >= approximate.size() || !reference[i].sizes().equals(approximate[i].sizes())) {
      throw Error(ErrorCode::kInvalidArgument, "the float and the quantized model return outputs of different shapes",
                  "validation_fn");
    }
    const at::Tensor r = reference[i].to(c10::kDouble);
    const double noise = squares(r - approximate[i].to(c10::kDouble)), signal = squares(r);
    sum += noise == 0 ? 0 : signal == 0 ? kInfinity : noise / signal;
  }
  return reference.empty() ? 0 : sum / static_cast<double>(reference.size());
}

std::vector<int64_t> largest_errors(const std::vector<double>& errors, int64_t count) {
  std::vector<int64_t> order(errors.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto rank = [&](int64_t i) { return std::isnan(errors[i]) ? kInfinity : errors[i]; };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return rank(a) < rank(b); });
  const auto kept = std::min<int64_t>(count, static_cast<int64_t>(order.size()));
  std::vector<int64_t> chosen(order.end() - kept, order.end());
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

ValidationResult Evaluator::call(const Model& model, const std::vector<int64_t>& indices) const {
  ValidationModel runner(model);
  ValidationResult result = function_(runner, data_, indices);
  if (!result.values.empty()) check_count(result.values.size(), indices.size(), "values");
  if (!result.outputs.empty()) check_count(result.outputs.size(), indices.size(), "outputs");
  if (std::isnan(result.metric)) result.metric = -kInfinity;
  return result;
}

void Evaluator::decide(const Model& model, const ValidationResult& result) {
  decided_ = true;
  by_outputs_ = !result.outputs.empty();
  if (by_outputs_ || !result.values.empty()) {
    source_ = Source::kFunction;
  } else {
    try {
      call(model, {0});
      source_ = Source::kSingleSamples;
    } catch (const std::exception&) {
      // NNCF's rule: a metric that cannot be computed for one sample does not rank samples.
      by_outputs_ = true;
      source_ = Source::kModel;
    }
  }
  if (ranking_fn_ && !by_outputs_) {
    throw Error(ErrorCode::kInvalidArgument, "ranking_fn compares outputs, but the validation function returns metrics",
                "ranking_fn", "return outputs from the validation function, or leave ranking_fn out");
  }
}

MetricResults Evaluator::validate(const Model& model) {
  const auto begin = std::chrono::steady_clock::now();
  ValidationResult result = call(model, all_indices(data_));
  MetricResults results;
  results.metric = result.metric;
  results.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (!decided_) decide(model, result);
  if (source_ == Source::kFunction) {
    check_count(by_outputs_ ? result.outputs.size() : result.values.size(), static_cast<size_t>(data_.length()),
                by_outputs_ ? "outputs" : "values");
    results.values = std::move(result.values);
    results.outputs = std::move(result.outputs);
  } else if (by_outputs_) {
    results.outputs = collect_outputs(model, all_indices(data_));
  } else {
    results.values = collect_values(model);
  }
  return results;
}

std::vector<std::vector<at::Tensor>> Evaluator::collect_outputs(const Model& model,
                                                                const std::vector<int64_t>& indices) const {
  const ValidationModel runner(model);
  std::vector<std::vector<at::Tensor>> outputs;
  for (int64_t index : indices) outputs.push_back(all_tensors(runner(data_.get(index))));
  return outputs;
}

std::vector<double> Evaluator::collect_values(const Model& model) const {
  std::vector<double> values;
  for (int64_t index : all_indices(data_)) values.push_back(call(model, {index}).metric);
  return values;
}

double Evaluator::error(const std::vector<at::Tensor>& reference, const std::vector<at::Tensor>& approximate) const {
  return ranking_fn_ ? ranking_fn_(reference, approximate) : normalized_mse(reference, approximate);
}

std::vector<int64_t> Evaluator::select_subset(const MetricResults& reference, const MetricResults& approximate,
                                              int64_t count) const {
  std::vector<double> errors;
  for (int64_t i = 0; i < data_.length(); ++i) {
    errors.push_back(by_outputs_ ? error(reference.outputs[i], approximate.outputs[i])
                                 : reference.values[i] - approximate.values[i]);
  }
  return largest_errors(errors, count);
}

double Evaluator::score(const Model& model, const MetricResults& reference, const std::vector<int64_t>& indices) const {
  if (!by_outputs_) return call(model, indices).metric;
  const auto outputs = source_ == Source::kModel ? collect_outputs(model, indices) : call(model, indices).outputs;
  check_count(outputs.size(), indices.size(), "outputs");
  double sum = 0;
  for (size_t i = 0; i < indices.size(); ++i) sum += error(reference.outputs[indices[i]], outputs[i]);
  return -sum / static_cast<double>(indices.size());
}

}  // namespace tsquant
