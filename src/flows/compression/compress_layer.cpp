#include "flows/compression/compress_layer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "compression/gptq.h"
#include "compression/hessian.h"
#include "compression/lora_correction.h"
#include "compression/mean_compensation.h"
#include "compression/refine_layer.h"
#include "compression/round_to_nearest.h"
#include "compression/scale_estimation.h"
#include "compression/scale_search.h"
#include "flows/compression/layer_by_layer.h"
#include "flows/compression/layer_inputs.h"
#include "graph/params.h"
#include "lowering/compressed/decompression_chain.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

void note_error(WeightRecord& record, const OutputError& error) {
  if (record.error_before < 0) record.error_before = error.before;
  record.error_after = error.after;
}

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
  const Node* node = layer.activation->use.user;
  if (node->kind() != c10::aten::linear || layer.uses.size() != 1) return;
  const auto bias = param_of(model, node->input(2));
  if (!bias) return;
  const auto shift = mean_compensation(layer.weight.to(at::kFloat), decompress(*layer.compressed), mean);
  layer.bias = (bias->tensor.to(at::kFloat) + shift).to(bias->tensor.scalar_type());
  layer.record.algorithms.emplace_back("mean compensation");
}

/// The ladder of refine_layer.h; one sample in four is kept back to judge by.
void choose_by_refinement(const Model& model, WeightLayer& layer, const std::vector<at::Tensor>& inputs) {
  if (inputs.empty()) {
    layer.record.remarks.emplace_back("refine: no sample reached it, searched scales");
    return;
  }
  constexpr size_t kKeptBack = 4;
  InputMoments moments, held_out;
  for (size_t i = 0; i < inputs.size(); ++i) (i % kKeptBack == kKeptBack - 1 ? held_out : moments).add(inputs[i]);
  RefineOptions options;
  options.scale_type = c10::kHalf;
  RefineRecord record;
  layer.compressed =
      refine(layer.weight, layer.spec, moments, held_out.rows() > 0 ? &held_out : nullptr, options, &record);
  layer.record.damping = record.damping;
  layer.record.algorithms.emplace_back(record.start == RefineStart::kSearched ? "scale search" : "whole range");
  layer.record.algorithms.emplace_back("gptq in order of importance");
  if (record.rounds > 0) layer.record.algorithms.push_back(fmt::format("descent and refit x {}", record.rounds));
  for (const auto& note : record.notes) layer.record.remarks.push_back("refine: " + note);
  note_error(layer.record, record.error);
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

/// A, B and their errors; their codes by name.
LayerResult result_of(const LoraAdapters& adapters) {
  LayerResult result{{adapters.a, adapters.b, at::tensor({adapters.error.before, adapters.error.after}, at::kDouble)}};
  if (adapters.a_codes) add_weight(result, "a_codes", *adapters.a_codes);
  if (adapters.b_codes) add_weight(result, "b_codes", *adapters.b_codes);
  return result;
}

LoraAdapters adapters_in(const LayerResult& result) {
  LoraAdapters adapters;
  adapters.a = result.tensors.at(0);
  adapters.b = result.tensors.at(1);
  const double* errors = result.tensors.at(2).data_ptr<double>();
  adapters.error = {errors[0], errors[1]};
  if (result.values.contains("a_codes")) adapters.a_codes = weight_in(result, "a_codes");
  if (result.values.contains("b_codes")) adapters.b_codes = weight_in(result, "b_codes");
  return adapters;
}

/// %x -> aten::linear(%x, %matrix)
Node* insert_product(NewParameters& parameters, const c10::optional<AttributeSlot>& slot, const char* suffix, Value* x,
                     const at::Tensor& matrix, const c10::optional<CompressedWeight>& codes, c10::ScalarType dtype,
                     Model& model) {
  auto& graph = *x->owningGraph();
  parameters.store_beside(matrix.to(dtype).contiguous(), slot, suffix);
  Value* weight = parameters.read();
  Value* none = graph.insertConstant(c10::IValue());
  Node* product = graph.insertNode(graph.create(c10::aten::linear, {x, weight, none}, 1));
  product->output()->setType(c10::TensorType::get());
  if (codes) insert_decompression(model, parameters, {{product, 1}}, store_weight(*codes, matrix.sizes(), dtype));
  return product;
}

}  // namespace

bool round_layers(Model& model, std::vector<WeightLayer>& layers, const CompressPt2eOptions& options,
                  LayerResults& results) {
  const bool refines = options.quality == CompressionQuality::kBest;
  const int64_t samples = refines ? options.subset_size : options.advanced_parameters.gptq_params.subset_size;
  compress_layer_by_layer(model, layers, options, samples, results,
                          [&](WeightLayer& layer, const std::vector<at::Tensor>& inputs) {
                            if (refines) {
                              choose_by_refinement(model, layer, inputs);
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

void correct_with_adapters(Model& model, NewParameters& parameters, WeightLayer& layer,
                           const CompressedWeight& compressed, const CompressPt2eOptions& options,
                           LayerResults& results) {
  const LayerSamples samples = layer.takes_algorithms() ? samples_of(layer) : LayerSamples();
  if (samples.size() == 0) return;
  if (layer.channel_axis != -1 || layer.uses.size() != 1) {
    layer.record.remarks.emplace_back("lora_correction: its input is transposed or its weight shared");
    return;
  }
  const auto& wanted = options.advanced_parameters.lora_correction_params;
  const auto adapters = adapters_in(results.obtain(
      "lora", layer.name, [&] { return result_of(lora_correction(layer.weight, compressed, samples, wanted)); }));
  if (adapters.a.size(0) < wanted.adapter_rank) {
    layer.record.remarks.push_back(fmt::format("lora_correction: rank {}, the weight has no more", adapters.a.size(0)));
  }
  Node* node = layer.activation->use.user;
  const auto slot = layer.slot;
  torch::jit::WithInsertPoint guard(node->next());
  const auto dtype = layer.weight.scalar_type();
  Value* x = node->input(layer.activation->use.offset);
  Node* down = insert_product(parameters, slot, "_lora_A", x, adapters.a, adapters.a_codes, dtype, model);
  Node* up = insert_product(parameters, slot, "_lora_B", down->output(), adapters.b, adapters.b_codes, dtype, model);
  auto& graph = *node->owningGraph();
  Node* sum = graph.insertNode(
      graph.create(c10::aten::add, {node->output(), up->output(), graph.insertConstant(int64_t{1})}, 1));
  sum->output()->setType(c10::TensorType::get());
  node->output()->replaceAllUsesAfterNodeWith(sum, sum->output());
  layer.record.algorithms.emplace_back("lora correction");
  note_error(layer.record, adapters.error);
  for (const auto& matrix : {adapters.a, adapters.b}) {
    layer.record.compressed_bytes +=
        wanted.use_int8_adapters ? matrix.numel() : matrix.numel() * static_cast<int64_t>(layer.weight.itemsize());
  }
}

}  // namespace tsquant
