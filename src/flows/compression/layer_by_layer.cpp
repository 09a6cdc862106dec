#include "flows/compression/layer_by_layer.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "algorithms/layerwise_run.h"
#include "graph/params.h"
#include "run/single_thread_guard.h"
#include "run/tap_runner.h"

namespace tsquant {

namespace {

using Choose = std::function<void(WeightLayer&, const std::vector<at::Tensor>&)>;

torch::jit::Node* product_of(const WeightLayer& layer) { return layer.activation->use.user; }

std::vector<torch::jit::Node*> nodes_of(const std::vector<WeightLayer*>& layers) {
  std::vector<torch::jit::Node*> nodes;
  for (const WeightLayer* layer : layers) nodes.push_back(product_of(*layer));
  return nodes;
}

constexpr const char* kStep = "codes";

void choose_codes(WeightLayer& layer, const std::vector<at::Tensor>& inputs, const Choose& choose,
                  LayerResults& results) {
  name_weight_in_errors(layer, [&] { choose(layer, inputs); });
  results.keep(kStep, layer.name, result_of(layer));
}

/// Which layers an earlier run has chosen the codes of.
std::vector<bool> take_results(const std::vector<WeightLayer*>& layers, LayerResults& results) {
  std::vector<bool> taken;
  for (WeightLayer* layer : layers) {
    const auto found = results.find(kStep, layer->name);
    if (found) restore(*found, *layer);
    taken.push_back(found.has_value());
  }
  return taken;
}

void show_bias(Model& model, const WeightLayer& layer) {
  if (layer.bias.defined()) set_param(model, product_of(layer), 2, layer.bias);
}

/// What comes after the layer sees the values of its codes.
void show_codes(Model& model, const WeightLayer& layer) {
  if (!layer.compressed) return;
  const at::Tensor values = corrected_values(layer).to(layer.weight.scalar_type());
  for (const auto& [user, offset] : layer.uses) set_param(model, user, offset, values);
}

/// The samples that are used, read in order.
std::vector<Sample> first_samples(const Dataset& dataset, int64_t count) {
  std::vector<Sample> samples;
  const int64_t available = dataset.count(count);
  for (int64_t i = 0; i < available; ++i) samples.push_back(dataset.get(i));
  return samples;
}

void run_in_parts(Model& model, const std::vector<WeightLayer*>& layers, const std::vector<Sample>& samples,
                  const CompressPt2eOptions& options, LayerResults& results, const Choose& choose) {
  const auto taken = take_results(layers, results);
  // Behind the last layer that is left the samples need not go on.
  const size_t end =
      layers.size() - static_cast<size_t>(std::find(taken.rbegin(), taken.rend(), false) - taken.rbegin());
  LayerwiseRun run(model, nodes_of(layers));
  for (const auto& sample : samples) run.add_sample(sample);
  for (size_t i = 0; i < layers.size(); ++i) {
    std::vector<at::Tensor> inputs;
    const auto see = [&](const at::Tensor& x) {
      if (!taken[i]) inputs.push_back(x);
    };
    if (i < end) run.advance_before(i, layers[i]->activation->use.offset, see);
    if (!taken[i]) choose_codes(*layers[i], inputs, choose, results);
    show_bias(model, *layers[i]);
    show_codes(model, *layers[i]);
    report_progress(options.progress, "layers", i + 1, layers.size());
  }
}

std::vector<at::Tensor> inputs_of(const Model& model, const WeightLayer& layer, const std::vector<Sample>& samples) {
  const torch::jit::Use& use = layer.activation->use;
  std::vector<at::Tensor> inputs;
  const TapRunner runner(model, {{use.user->input(use.offset), use}}, /*deterministic=*/true);
  for (const auto& sample : samples) {
    runner.run(sample, [&](size_t, const at::Tensor& x) { inputs.push_back(x.clone()); });
  }
  return inputs;
}

/// One run of the float model for each layer: the inputs of all of them at a time may not fit into memory.
void run_whole(Model& model, const std::vector<WeightLayer*>& layers, const std::vector<Sample>& samples,
               const CompressPt2eOptions& options, LayerResults& results, const Choose& choose) {
  const auto taken = take_results(layers, results);
  for (size_t i = 0; i < layers.size(); ++i) {
    WeightLayer& layer = *layers[i];
    if (!taken[i]) {
      layer.record.remarks.emplace_back("its inputs are those of the float model: the model cannot be cut into layers");
      choose_codes(layer, inputs_of(model, layer, samples), choose, results);
    }
    show_bias(model, layer);
    report_progress(options.progress, "layers", i + 1, layers.size());
  }
}

}  // namespace

void compress_layer_by_layer(Model& model, std::vector<WeightLayer>& layers, const CompressPt2eOptions& options,
                             int64_t subset_size, LayerResults& results, const Choose& choose) {
  std::vector<WeightLayer*> chosen;
  for (WeightLayer& layer : layers) {
    if (!layer.takes_algorithms()) continue;
    if (layer.channel_axis != -1) {
      layer.record.remarks.emplace_back("its input is transposed: plain rounding");
      continue;
    }
    chosen.push_back(&layer);
  }
  const SingleThreadGuard deterministic;
  const auto samples = first_samples(*options.dataset, std::min(subset_size, options.subset_size));
  if (!LayerwiseRun::possible(model, nodes_of(chosen)))
    return run_whole(model, chosen, samples, options, results, choose);
  std::sort(chosen.begin(), chosen.end(),
            [](const WeightLayer* a, const WeightLayer* b) { return product_of(*a)->isBefore(product_of(*b)); });
  run_in_parts(model, chosen, samples, options, results, choose);
}

}  // namespace tsquant
