#include "flows/compression/adapters.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "compression/lora_correction.h"
#include "flows/compression/layer_inputs.h"
#include "graph/insert_op.h"
#include "lowering/compressed/decompression_chain.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

bool takes_adapters(WeightLayer& layer) {
  if (layer.channel_axis == -1 && layer.uses.size() == 1) return true;
  layer.record.remarks.emplace_back("lora_correction: its input is transposed or its weight shared");
  return false;
}

}  // namespace

void fit_adapters(WeightLayer& layer, const CompressedWeight& compressed,
                  const AdvancedLoraCorrectionParameters& wanted, LayerResults& results) {
  const LayerSamples samples = layer.takes_algorithms() ? samples_of(layer) : LayerSamples();
  if (samples.size() == 0 || !takes_adapters(layer)) return;
  const auto fit = [&] {
    const auto adapters = lora_correction(layer.weight, compressed, samples, wanted);
    LowRankCorrection correction;
    correction.a = {adapters.a, adapters.a_codes};
    correction.b = {adapters.b, adapters.b_codes};
    correction.error_before = adapters.error.before;
    correction.error_after = adapters.error.after;
    LayerResult result;
    add_correction(result, correction);
    return result;
  };
  layer.correction = correction_in(results.obtain("lora", layer.name, fit));
}

namespace {

/// %x -> aten::linear(%x, %matrix)
Value* insert_product(NewParameters& parameters, const c10::optional<AttributeSlot>& slot, const char* suffix, Value* x,
                      const Adapter& matrix, c10::ScalarType dtype, Model& model) {
  auto& graph = *x->owningGraph();
  Value* weight = parameters.read_beside(matrix.values.to(dtype).contiguous(), slot, suffix);
  Value* product = insert_op(graph, "aten::linear", {x, weight, graph.insertConstant(c10::IValue())});
  if (matrix.codes) {
    const auto stored = store_weight(*matrix.codes, matrix.values.sizes(), dtype);
    insert_decompression(model, parameters, {{product->node(), 1}}, stored);
  }
  return product;
}

}  // namespace

void find_adapters(WeightLayer& layer, const InputMoments& moments, const AdvancedLoraCorrectionParameters& wanted) {
  if (!takes_adapters(layer)) return;
  if (output_axis(layer) != 0) {
    layer.record.remarks.emplace_back("lora_correction: its weight is transposed");
    return;
  }
  LowRankOptions options;
  options.rank = wanted.adapter_rank;
  options.int8_adapters = wanted.use_int8_adapters;
  layer.correction = correct_low_rank(layer.weight.to(at::kFloat), *layer.compressed, moments.hessian(), options);
}

void insert_adapters(Model& model, NewParameters& parameters, WeightLayer& layer,
                     const AdvancedLoraCorrectionParameters& wanted) {
  if (!layer.correction) return;
  const LowRankCorrection& correction = *layer.correction;
  if (correction.a.values.size(0) < wanted.adapter_rank) {
    layer.record.remarks.push_back(
        fmt::format("lora_correction: rank {}, the weight has no more", correction.a.values.size(0)));
  }
  Node* node = product_of(layer);
  torch::jit::WithInsertPoint guard(node->next());
  const auto dtype = layer.weight.scalar_type();
  Value* x = node->input(layer.activation->use.offset);
  Value* down = insert_product(parameters, layer.slot, "_lora_A", x, correction.a, dtype, model);
  Value* up = insert_product(parameters, layer.slot, "_lora_B", down, correction.b, dtype, model);
  auto& graph = *node->owningGraph();
  Value* sum = insert_op(graph, "aten::add", {node->output(), up, graph.insertConstant(int64_t{1})});
  node->output()->replaceAllUsesAfterNodeWith(sum->node(), sum);
  layer.record.algorithms.emplace_back("lora correction");
  note_error(layer.record, {correction.error_before, correction.error_after});
  for (const auto* matrix : {&correction.a.values, &correction.b.values}) {
    layer.record.compressed_bytes +=
        wanted.use_int8_adapters ? matrix->numel() : matrix->numel() * static_cast<int64_t>(layer.weight.itemsize());
  }
}

}  // namespace tsquant
