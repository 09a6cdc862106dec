#include "flows/compression/layer_by_layer.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "algorithms/layerwise_run.h"
#include "calibration/calibrator.h"
#include "flows/compression/trainable_layer.h"
#include "graph/params.h"
#include "io/file_mapping.h"
#include "run/single_thread_guard.h"
#include "run/tap_runner.h"

namespace tsquant {

namespace {

using torch::jit::Value;
using Choose = std::function<void(WeightLayer&, const std::vector<at::Tensor>&)>;

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
std::vector<bool> take_results(const std::vector<WeightLayer*>& layers, LayerResults& results, RankGroup& ranks) {
  std::vector<bool> taken;
  std::vector<c10::optional<LayerResult>> found;
  for (const WeightLayer* layer : layers) found.push_back(results.find(kStep, layer->name));
  ranks.complete(found);
  for (size_t i = 0; i < layers.size(); ++i) {
    if (found[i]) restore(*found[i], *layers[i]);
    taken.push_back(found[i].has_value());
  }
  return taken;
}

/// Whether a node may change a tensor in place.
bool may_write(const torch::jit::Node* node) {
  if (!node->blocks().empty()) return true;
  const auto* schema = node->maybeSchema();
  return schema != nullptr && schema->is_mutable();
}

/// The end of the layers from `begin` on that read one tensor: none of their inputs depends on the codes of another.
/// One process alone takes them one by one.
size_t end_of_part(const std::vector<WeightLayer*>& layers, size_t begin, const RankGroup& ranks) {
  if (ranks.alone()) return begin + 1;
  const auto input = [](const WeightLayer* layer) { return product_of(*layer)->input(layer->activation->use.offset); };
  size_t end = begin + 1;
  for (; end < layers.size() && input(layers[end]) == input(layers[begin]); ++end) {
    const torch::jit::Node* node = product_of(*layers[end - 1]);
    while (node != product_of(*layers[end]) && !may_write(node)) node = node->next();
    if (node != product_of(*layers[end])) break;
  }
  return end;
}

/// Those of the layers [begin, end) that were not taken.
std::vector<WeightLayer*> left_of(const std::vector<WeightLayer*>& layers, size_t begin, size_t end,
                                  const std::vector<bool>& taken) {
  std::vector<WeightLayer*> left;
  for (size_t i = begin; i < end; ++i) {
    if (!taken[i]) left.push_back(layers[i]);
  }
  return left;
}

void show_bias(Model& model, const WeightLayer& layer) {
  if (layer.bias.defined()) set_param(model, product_of(layer), 2, layer.bias);
}

/// A weight whose readers see the values of its codes, and what they read before.
struct ShownCodes {
  WeightLayer* layer;
  std::vector<Value*> before;

  bool is_behind(const torch::jit::Node* node) const {
    return std::all_of(layer->uses.begin(), layer->uses.end(),
                       [&](const ParameterUse& use) { return use.first->isBefore(node); });
  }
};

/// What comes after the layer sees the values of its codes.
ShownCodes show_codes(Model& model, WeightLayer& layer) {
  const at::Tensor values = corrected_values(layer).to(layer.weight.scalar_type());
  ShownCodes shown{&layer, {}};
  for (const auto& [user, offset] : layer.uses) {
    shown.before.push_back(user->input(offset));
    set_param(model, user, offset, values);
  }
  return shown;
}

/// Those of all layers wait until the last one is rounded. Adapters and trainable quantizers are made from scales as
/// they were before they are stored.
void pack_codes(WeightLayer& layer, const CompressPt2eOptions& options) {
  if (options.lora_correction || is_trainable(options)) return;
  layer.stored = store_weight(*layer.compressed, layer.weight.sizes(), layer.weight.scalar_type());
  layer.compressed = c10::nullopt;
}

/// Gives the readers the float weight again, so that the values take no more memory.
void hide_codes(Model& model, const ShownCodes& shown, const CompressPt2eOptions& options) {
  for (size_t i = 0; i < shown.before.size(); ++i) {
    const auto& [user, offset] = shown.layer->uses[i];
    Value* values = user->input(offset);
    if (values == shown.before[i]) {
      set_param(model, user, offset, shown.layer->weight);
      continue;
    }
    user->replaceInput(offset, shown.before[i]);
    if (!values->hasUses()) values->node()->destroy();
  }
  give_pages_back(shown.layer->weight);
  pack_codes(*shown.layer, options);
}

/// Of the weights that all samples have passed. @param next the layer that they have not; null at the end
void hide_passed(Model& model, std::vector<ShownCodes>& shown, const torch::jit::Node* next,
                 const CompressPt2eOptions& options) {
  const auto passed = std::stable_partition(
      shown.begin(), shown.end(), [&](const ShownCodes& weight) { return next != nullptr && !weight.is_behind(next); });
  std::for_each(passed, shown.end(), [&](const ShownCodes& weight) { hide_codes(model, weight, options); });
  shown.erase(passed, shown.end());
}

/// The samples that are used, read in order. Statistics may have said before that they are few.
std::vector<Sample> first_samples(const Dataset& dataset, int64_t wanted, Report& report) {
  std::vector<std::string> warnings;
  const int64_t available = checked_sample_count(dataset, wanted, warnings);
  std::vector<Sample> samples;
  for (int64_t i = 0; i < available; ++i) samples.push_back(dataset.get(i));
  auto& known = report.warnings;
  for (auto& warning : warnings) {
    if (std::find(known.begin(), known.end(), warning) == known.end()) known.push_back(std::move(warning));
  }
  report.samples = std::max(report.samples, available);
  return samples;
}

void run_in_parts(Model& model, const std::vector<WeightLayer*>& layers, const std::vector<Sample>& samples,
                  const CompressPt2eOptions& options, LayerResults& results, RankGroup& ranks, const Choose& choose) {
  const auto taken = take_results(layers, results, ranks);
  // Behind the last layer that is left the samples need not go on.
  const size_t end =
      layers.size() - static_cast<size_t>(std::find(taken.rbegin(), taken.rend(), false) - taken.rbegin());
  LayerwiseRun run(model, nodes_of(layers));
  for (const auto& sample : samples) run.add_sample(sample);
  std::vector<ShownCodes> shown;
  for (size_t i = 0, part_end = 0; i < layers.size(); ++i) {
    std::vector<at::Tensor> inputs;
    std::vector<WeightLayer*> left;  // of the part that starts here
    if (i == part_end) {
      part_end = end_of_part(layers, i, ranks);
      left = left_of(layers, i, part_end, taken);
    }
    const auto see = [&](const at::Tensor& x) {
      if (!left.empty()) inputs.push_back(x);
    };
    if (i < end) run.advance_before(i, layers[i]->activation->use.offset, see);
    hide_passed(model, shown, product_of(*layers[i]), options);
    share_layers(ranks, left, [&](WeightLayer& layer) { choose_codes(layer, inputs, choose, results); });
    show_bias(model, *layers[i]);
    if (layers[i]->compressed) shown.push_back(show_codes(model, *layers[i]));
    report_progress(options.progress, "layers", i + 1, layers.size());
  }
  hide_passed(model, shown, nullptr, options);
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
               const CompressPt2eOptions& options, LayerResults& results, RankGroup& ranks, const Choose& choose) {
  const auto taken = take_results(layers, results, ranks);
  const auto choose_by_run = [&](WeightLayer& layer) {
    layer.record.remarks.emplace_back("its inputs are those of the float model: the model cannot be cut into layers");
    choose_codes(layer, inputs_of(model, layer, samples), choose, results);
  };
  // A new bias changes the inputs of the layers behind.
  const bool independent = options.quality != CompressionQuality::kBest && !ranks.alone();
  for (size_t begin = 0; begin < layers.size();) {
    const size_t end = independent ? layers.size() : begin + 1;
    share_layers(ranks, left_of(layers, begin, end, taken), choose_by_run);
    for (; begin < end; ++begin) {
      show_bias(model, *layers[begin]);
      report_progress(options.progress, "layers", begin + 1, layers.size());
    }
  }
}

}  // namespace

void compress_layer_by_layer(Model& model, std::vector<WeightLayer>& layers, const CompressPt2eOptions& options,
                             int64_t subset_size, LayerResults& results, RankGroup& ranks, Report& report,
                             const Choose& choose) {
  std::vector<WeightLayer*> chosen;
  for (WeightLayer& layer : layers) {
    if (!layer.takes_algorithms()) continue;
    if (layer.channel_axis != -1) {
      layer.record.remarks.emplace_back("its input is transposed: plain rounding");
      continue;
    }
    chosen.push_back(&layer);
  }
  if (chosen.empty()) return;
  const SingleThreadGuard deterministic;
  const auto samples = first_samples(*options.dataset, std::min(subset_size, options.subset_size), report);
  if (!LayerwiseRun::possible(model, nodes_of(chosen)))
    return run_whole(model, chosen, samples, options, results, ranks, choose);
  std::sort(chosen.begin(), chosen.end(),
            [](const WeightLayer* a, const WeightLayer* b) { return product_of(*a)->isBefore(product_of(*b)); });
  run_in_parts(model, chosen, samples, options, results, ranks, choose);
}

}  // namespace tsquant
