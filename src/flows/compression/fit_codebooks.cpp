#include "flows/compression/fit_codebooks.h"

#include "compression/adaptive_codebook.h"
#include "flows/compression/layer_inputs.h"

namespace tsquant {

bool wants_codebook(const WeightLayer& layer) {
  return layer.in_primary() && layer.point->compression->adaptive_codebook;
}

void fit_codebooks(std::vector<WeightLayer>& layers, const CompressPt2eOptions& options) {
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
  for (const auto& group : codebook_groups(names, parameters)) {
    std::vector<CodebookLayer> of_group;
    for (const size_t i : group) of_group.push_back({chosen[i]->weight, &samples[i]});
    const auto& given = options.advanced_parameters.codebook;
    const auto found = adaptive_codebook(of_group, chosen[group.front()]->spec, parameters, given);
    for (size_t i = 0; i < group.size(); ++i) {
      WeightLayer& layer = *chosen[group[i]];
      layer.spec.codebook = found.levels;
      layer.spec.format = codebook_format(found.levels.size());
      layer.record.error_before = found.errors[i].before;
      layer.record.error_after = found.errors[i].after;
      layer.record.algorithms.emplace_back("adaptive codebook");
    }
  }
}

}  // namespace tsquant
