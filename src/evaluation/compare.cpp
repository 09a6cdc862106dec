#include "evaluation/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "evaluation/layer_pairs.h"
#include "evaluation/runnable.h"
#include "numerics/error_metrics.h"
#include "passes/rewrite_runner.h"
#include "run/tap_runner.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Results at the taps of one run; a tap inside a loop fires several times.
using Recorded = std::vector<std::vector<at::Tensor>>;

at::Tensor plain(const at::Tensor& tensor) {
  // A later operator may write in place, so what is kept is a copy.
  return tensor.is_quantized() ? tensor.dequantize() : tensor.clone();
}

std::vector<TapPoint> taps_at(const GraphView& view, const LayerPairs& pairs, bool second) {
  std::vector<TapPoint> taps;
  for (const auto& pair : pairs) {
    taps.emplace_back();
    taps.back().value = view.node(second ? pair.second : pair.first).value;
  }
  return taps;
}

/// The runs of one pair of models and the error sums at every pair of taps.
class Comparer {
 public:
  Comparer(const Model& float_model, const Model& quantized_model, const GraphView& float_view,
           const GraphView& quantized_view, LayerPairs pairs)
      : pairs_(std::move(pairs)),
        float_runner_(float_model, taps_at(float_view, pairs_, false)),
        quantized_runner_(quantized_model, taps_at(quantized_view, pairs_, true)),
        layers_(pairs_.size()) {}

  void run(const Sample& sample) {
    Recorded expected(pairs_.size());
    const auto float_result = float_runner_.run(sample, [&](size_t tap, const at::Tensor& tensor) {
      if (tensor.is_floating_point()) expected[tap].push_back(plain(tensor));
    });
    std::vector<size_t> fired(pairs_.size(), 0);
    const auto result = quantized_runner_.run(sample, [&](size_t tap, const at::Tensor& tensor) {
      const size_t turn = fired[tap]++;
      if (turn < expected[tap].size()) add(layers_[tap], expected[tap][turn], tensor);
    });
    add_outputs(float_result, result);
  }

  const std::vector<ErrorMetrics>& layers() const { return layers_; }
  const std::vector<ErrorMetrics>& outputs() const { return outputs_; }
  const LayerPairs& pairs() const { return pairs_; }

 private:
  static void add(ErrorMetrics& metrics, const at::Tensor& expected, const at::Tensor& given) {
    const at::Tensor value = given.is_quantized() ? given.dequantize() : given;
    if (value.sizes() == expected.sizes() && value.is_floating_point()) metrics.add(expected, value);
  }

  void add_outputs(const c10::IValue& float_result, const c10::IValue& result) {
    const auto expected = all_tensors(float_result), given = all_tensors(result);
    if (expected.size() != given.size()) {
      throw Error(ErrorCode::kDataset, "the two models return different numbers of tensors", "forward",
                  "compare a quantized model with the float model it was made from");
    }
    outputs_.resize(expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      if (expected[i].sizes() != given[i].sizes()) {
        throw Error(ErrorCode::kDataset, "the two models return tensors of different shapes", "forward",
                    "compare a quantized model with the float model it was made from");
      }
      if (expected[i].is_floating_point()) add(outputs_[i], expected[i], given[i]);
    }
  }

  LayerPairs pairs_;
  TapRunner float_runner_, quantized_runner_;
  std::vector<ErrorMetrics> layers_, outputs_;
};

LayerError to_layer(const ErrorMetrics& metrics) {
  LayerError error;
  error.sqnr_db = metrics.sqnr_db();
  error.cosine = metrics.cosine();
  error.max_error = metrics.max_abs_error();
  error.noise = std::pow(10.0, -error.sqnr_db / 10.0);
  return error;
}

/// Noise at the node's inputs: of the nearest measured operators, seen through operators that were not measured.
double input_noise(const GraphView& view, const ViewNode& node, const std::unordered_map<int64_t, double>& noise) {
  double largest = 0;
  std::vector<int64_t> pending{node.id};
  std::unordered_set<int64_t> seen{node.id};
  while (!pending.empty()) {
    const auto& current = view.node(pending.back());
    pending.pop_back();
    for (int64_t id : current.in_edges) {
      if (id < 0) continue;
      const int64_t from = view.edge(id).from;
      if (!seen.insert(from).second) continue;
      const auto found = noise.find(from);
      if (found != noise.end()) {
        largest = std::max(largest, found->second);
      } else if (view.node(from).kind == NodeKind::kOperator) {
        pending.push_back(from);
      }
    }
  }
  return largest;
}

Comparison summarise(const Comparer& comparer, const GraphView& view) {
  Comparison result;
  std::unordered_map<int64_t, double> noise;
  for (size_t i = 0; i < comparer.pairs().size(); ++i) {
    if (comparer.layers()[i].count() > 0) noise[comparer.pairs()[i].first] = to_layer(comparer.layers()[i]).noise;
  }
  for (size_t i = 0; i < comparer.pairs().size(); ++i) {
    if (comparer.layers()[i].count() == 0) continue;
    const auto& node = view.node(comparer.pairs()[i].first);
    LayerError error = to_layer(comparer.layers()[i]);
    error.name = node.name;
    error.fx_name = node.fx_name;
    error.type = node.type;
    error.added = error.noise - input_noise(view, node, noise);
    result.layers.push_back(std::move(error));
  }
  std::stable_sort(result.layers.begin(), result.layers.end(),
                   [](const LayerError& a, const LayerError& b) { return a.added > b.added; });
  for (size_t i = 0; i < comparer.outputs().size(); ++i) {
    result.outputs.push_back(to_layer(comparer.outputs()[i]));
    result.outputs.back().name = i == 0 ? "output" : fmt::format("output_{}", i);
  }
  for (const auto& node : view.nodes()) result.unmatched += node.kind == NodeKind::kOperator;
  result.unmatched -= static_cast<int64_t>(result.layers.size());
  return result;
}

}  // namespace

Comparison compare_models(const Model& float_model, const Model& quantized_model, const Dataset& data,
                          int64_t subset_size, const Report* report, const Progress& progress) {
  if (data.length() == 0) throw Error(ErrorCode::kDataset, "the data set is empty", "--data");
  // The quantized model was made from the float model after these rewrites, so the operators correspond.
  Model reference = float_model.clone();
  run_passes(reference);
  const GraphView float_view(reference), quantized_view(quantized_model);
  Comparer comparer(reference, quantized_model, float_view, quantized_view,
                    pair_layers(float_view, quantized_view, report));
  const int64_t total = subset_size > 0 ? std::min(subset_size, data.length()) : data.length();
  for (int64_t i = 0; i < total; ++i) {
    comparer.run(data.get(i));
    if (progress && !progress("compare", i + 1, total)) {
      throw Error(ErrorCode::kCancelled, "the comparison was cancelled");
    }
  }
  Comparison result = summarise(comparer, float_view);
  result.samples = total;
  return result;
}

std::vector<std::string> ignore_options(const Comparison& comparison, size_t count) {
  std::vector<std::string> options;
  for (const auto& layer : comparison.layers) {
    if (options.size() == count || !(layer.added > 0)) break;
    options.push_back("--ignore-name " + layer.name);
  }
  return options;
}

}  // namespace tsquant
