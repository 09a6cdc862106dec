#include "flows/compression/fit_codebooks.h"

#include <ATen/ATen.h>

#include "compression/adaptive_codebook.h"
#include "flows/compression/layer_inputs.h"

namespace tsquant {

namespace {

/// Levels float32 [count], errors float64 [layers, 2].
LayerResult result_of(const AdaptiveCodebook& codebook) {
  const at::Tensor errors = at::empty({static_cast<int64_t>(codebook.errors.size()), 2}, at::kDouble);
  double* next = errors.data_ptr<double>();
  for (const auto& error : codebook.errors) {
    *next++ = error.before;
    *next++ = error.after;
  }
  return {{at::tensor(codebook.levels, at::kFloat), errors}};
}

}  // namespace

bool wants_codebook(const WeightLayer& layer) {
  return layer.in_primary() && layer.point->compression->adaptive_codebook;
}

void fit_codebooks(std::vector<WeightLayer>& layers, const CompressPt2eOptions& options, LayerResults& results,
                   RankGroup& ranks) {
  const auto& parameters = options.advanced_parameters.adaptive_codebook_params;
  std::vector<WeightLayer*> chosen;
  std::vector<std::string> names;
  std::vector<LayerSamples> samples;
  for (WeightLayer& layer : layers) {
    if (!wants_codebook(layer)) continue;
    LayerSamples of_layer = layer.is_matrix() ? samples_of(layer) : LayerSamples();
    if (of_layer.size() == 0) {
      layer.record.remarks.emplace_back(
          "adaptive_codebook: its inputs are not known, the codebook to start from is kept");
      continue;
    }
    chosen.push_back(&layer);
    names.push_back(layer.name);
    samples.push_back(std::move(of_layer));
  }
  const auto groups = codebook_groups(names, parameters);
  std::vector<int64_t> sizes;
  for (const auto& group : groups) {
    sizes.push_back(0);
    for (const size_t i : group) sizes.back() += chosen[i]->weight.numel();
  }
  const auto fit = [&](size_t index) {
    std::vector<CodebookLayer> of_group;
    for (const size_t i : groups[index]) of_group.push_back({chosen[i]->weight, &samples[i]});
    const WeightLayer& first = *chosen[groups[index].front()];
    return results.obtain("codebook", first.name, [&] {
      return result_of(adaptive_codebook(of_group, first.spec, parameters, options.advanced_parameters.codebook));
    });
  };
  ranks.share(sizes, fit, [&](size_t index, const LayerResult& found) {
    const auto& group = groups[index];
    const at::Tensor &levels = found.tensors.at(0), &errors = found.tensors.at(1);
    for (size_t i = 0; i < group.size(); ++i) {
      WeightLayer& layer = *chosen[group[i]];
      layer.spec.codebook.assign(levels.data_ptr<float>(), levels.data_ptr<float>() + levels.numel());
      layer.spec.format = codebook_format(layer.spec.codebook.size());
      const double* of_layer = errors[static_cast<int64_t>(i)].data_ptr<double>();
      layer.record.error_before = of_layer[0];
      layer.record.error_after = of_layer[1];
      layer.record.algorithms.emplace_back("adaptive codebook");
    }
    report_progress(options.progress, "codebooks", index + 1, groups.size());
  });
}

}  // namespace tsquant
