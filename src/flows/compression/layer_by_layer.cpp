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

torch::jit::Node* node_of(const WeightLayer& layer) { return layer.activation->use.user; }

std::vector<torch::jit::Node*> nodes_of(const std::vector<WeightLayer*>& layers) {
  std::vector<torch::jit::Node*> nodes;
  for (const WeightLayer* layer : layers) nodes.push_back(node_of(*layer));
  return nodes;
}

void choose_codes(WeightLayer& layer, const std::vector<at::Tensor>& inputs, const Choose& choose) {
  name_weight_in_errors(layer, [&] { choose(layer, inputs); });
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
                  const CompressPt2eOptions& options, const Choose& choose) {
  LayerwiseRun run(model, nodes_of(layers));
  for (const auto& sample : samples) run.add_sample(sample);
  for (size_t i = 0; i < layers.size(); ++i) {
    std::vector<at::Tensor> inputs;
    run.advance_before(i, layers[i]->activation->use.offset, [&](const at::Tensor& x) { inputs.push_back(x); });
    choose_codes(*layers[i], inputs, choose);
    show_codes(model, *layers[i]);
    report_progress(options.progress, "layers", i + 1, layers.size());
  }
}

/// One run of the float model for each layer: the inputs of all of them at a time may not fit into memory.
void run_whole(const Model& model, const std::vector<WeightLayer*>& layers, const std::vector<Sample>& samples,
               const CompressPt2eOptions& options, const Choose& choose) {
  for (size_t i = 0; i < layers.size(); ++i) {
    WeightLayer& layer = *layers[i];
    layer.record.remarks.emplace_back("its inputs are those of the float model: the model cannot be cut into layers");
    const torch::jit::Use& use = layer.activation->use;
    std::vector<at::Tensor> inputs;
    const TapRunner runner(model, {{use.user->input(use.offset), use}}, /*deterministic=*/true);
    for (const auto& sample : samples) {
      runner.run(sample, [&](size_t, const at::Tensor& x) { inputs.push_back(x.clone()); });
    }
    choose_codes(layer, inputs, choose);
    report_progress(options.progress, "layers", i + 1, layers.size());
  }
}

}  // namespace

void compress_layer_by_layer(Model& model, std::vector<WeightLayer>& layers, const CompressPt2eOptions& options,
                             int64_t subset_size, const Choose& choose) {
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
  if (!LayerwiseRun::possible(model, nodes_of(chosen))) return run_whole(model, chosen, samples, options, choose);
  std::sort(chosen.begin(), chosen.end(),
            [](const WeightLayer* a, const WeightLayer* b) { return node_of(*a)->isBefore(node_of(*b)); });
  run_in_parts(model, chosen, samples, options, choose);
}

}  // namespace tsquant
