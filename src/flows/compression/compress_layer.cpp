#include "flows/compression/compress_layer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "compression/gptq.h"
#include "compression/hessian.h"
#include "compression/mean_compensation.h"
#include "compression/refine_layer.h"
#include "compression/round_to_nearest.h"
#include "compression/scale_estimation.h"
#include "compression/scale_search.h"
#include "flows/compression/adapters.h"
#include "flows/compression/layer_by_layer.h"
#include "flows/compression/layer_inputs.h"
#include "graph/params.h"
#include "lowering/compressed/decompression_chain.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

void choose_by_gptq(WeightLayer& layer, const std::vector<at::Tensor>& inputs, const CompressPt2eOptions& options) {
  const auto& advanced = options.advanced_parameters;
  if (inputs.empty()) {
    layer.record.remarks.emplace_back("gptq: no sample reached it, plain rounding");
    return;
  }
  const auto hessian = hessian_of(inputs, advanced.gptq_params.subset_size);
  GptqWeight result;
  if (options.scale_estimation) {
    LayerSamples samples;
    for (const auto& x : inputs) samples.add(x);
    result = gptq_with_scale_estimation(layer.weight, layer.spec, hessian, samples, advanced.gptq_params,
                                        scale_estimation_in_gptq(advanced.scale_estimation_params));
  } else {
    result = gptq(layer.weight, layer.spec, hessian, advanced.gptq_params);
  }
  layer.compressed = result.weight;
  layer.record.damping = result.damp_percent;
  layer.record.algorithms.emplace_back(options.scale_estimation ? "gptq with scale estimation" : "gptq");
  note_error(layer.record, result.error);
}

/// bias += (W - Q) E[x], where the layer has a bias of its own.
void compensate_mean(const Model& model, WeightLayer& layer, const at::Tensor& mean) {
  const Node* node = product_of(layer);
  if (node->kind() != c10::aten::linear || layer.uses.size() != 1) return;
  const auto bias = param_of(model, node->input(2));
  if (!bias) return;
  const auto shift = mean_compensation(layer.weight.to(at::kFloat), corrected_values(layer), mean);
  layer.bias = (bias->tensor.to(at::kFloat) + shift).to(bias->tensor.scalar_type());
  layer.record.algorithms.emplace_back("mean compensation");
}

/// The ladder of refine_layer.h; one sample in four judges before it counts with the others.
void choose_by_refinement(const Model& model, WeightLayer& layer, const std::vector<at::Tensor>& inputs,
                          const CompressPt2eOptions& compression) {
  if (inputs.empty()) {
    layer.record.remarks.emplace_back("refine: no sample reached it, searched scales");
    return;
  }
  constexpr size_t kKeptBack = 4;
  InputMoments moments, held_out;
  for (size_t i = 0; i < inputs.size(); ++i) (i % kKeptBack == kKeptBack - 1 ? held_out : moments).add(inputs[i]);
  RefineOptions options;
  options.scale_type = c10::kHalf;
  options.all_rows = true;
  RefineRecord record;
  layer.compressed =
      refine(layer.weight, layer.spec, moments, held_out.rows() > 0 ? &held_out : nullptr, options, &record);
  layer.record.damping = record.damping;
  layer.record.algorithms.emplace_back(record.start == RefineStart::kSearched ? "scale search" : "whole range");
  layer.record.algorithms.emplace_back("gptq in order of importance");
  if (record.rounds > 0) layer.record.algorithms.push_back(fmt::format("descent and refit x {}", record.rounds));
  for (const auto& note : record.notes) layer.record.remarks.push_back("refine: " + note);
  note_error(layer.record, record.error);
  if (compression.lora_correction) {
    if (held_out.rows() > 0) moments.merge(held_out);
    find_adapters(layer, moments, compression.advanced_parameters.lora_correction_params);
  }
  compensate_mean(model, layer, moments.mean());
}

void choose_scales(WeightLayer& layer, const LayerSamples& samples, const CompressPt2eOptions& options) {
  if (samples.size() == 0) {
    layer.record.algorithms.emplace_back("scale search");
    layer.compressed = search_scales(layer.weight, layer.spec);
    return;
  }
  const auto estimated =
      estimate_scales(layer.weight, layer.spec, samples, options.advanced_parameters.scale_estimation_params);
  layer.record.algorithms.emplace_back("scale estimation");
  note_error(layer.record, estimated.error);
  layer.compressed = estimated.weight;
}

CompressedWeight compress_unnamed(WeightLayer& layer, const CompressPt2eOptions& options, LayerResults& results) {
  if (layer.compressed) return *layer.compressed;
  const LayerSamples samples =
      options.scale_estimation && layer.takes_algorithms() ? samples_of(layer) : LayerSamples();
  const bool searches = options.quality == CompressionQuality::kBest && format_info(layer.spec.format).bits < 8;
  if (samples.size() == 0 && !searches) return round_to_nearest(layer.weight, layer.spec);
  const auto choose = [&] {
    choose_scales(layer, samples, options);
    return result_of(layer);
  };
  restore(results.obtain("scales", layer.name, choose), layer);
  return *layer.compressed;
}

}  // namespace

bool round_layers(Model& model, std::vector<WeightLayer>& layers, const CompressPt2eOptions& options,
                  LayerResults& results, RankGroup& ranks, Report& report) {
  const bool refines = options.quality == CompressionQuality::kBest;
  const int64_t samples = refines ? options.subset_size : options.advanced_parameters.gptq_params.subset_size;
  compress_layer_by_layer(model, layers, options, samples, results, ranks, report,
                          [&](WeightLayer& layer, const std::vector<at::Tensor>& inputs) {
                            if (refines) {
                              choose_by_refinement(model, layer, inputs, options);
                            } else {
                              choose_by_gptq(layer, inputs, options);
                            }
                          });
  return true;
}

CompressedWeight compress_layer(WeightLayer& layer, const CompressPt2eOptions& options, LayerResults& results) {
  CompressedWeight result;
  name_weight_in_errors(layer, [&] { result = compress_unnamed(layer, options, results); });
  return result;
}

}  // namespace tsquant
