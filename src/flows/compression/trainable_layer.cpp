#include "flows/compression/trainable_layer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "compression/layer_error.h"
#include "lowering/trainable/trainable_weight.h"
#include "numerics/formats.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

int64_t bytes_of(const TrainableWeight& weight) {
  int64_t sum = 0;
  for (const auto& tensor : {weight.weight, weight.limit, weight.low, weight.range, weight.lora_a, weight.lora_b}) {
    if (tensor.defined()) sum += static_cast<int64_t>(tensor.nbytes());
  }
  return sum;
}

}  // namespace

std::vector<int64_t> adapter_ranks(std::vector<WeightLayer>& layers, const CompressPt2eOptions& options) {
  std::vector<int64_t> ranks(layers.size(), 0);
  if (options.compression_format != CompressionFormat::kFQLora) return ranks;
  const int64_t rank = options.advanced_parameters.lora_adapter_rank;
  const auto is_small = [](const WeightLayer& layer) {
    return !layer.in_float && format_info(layer.spec.format).bits < 8;
  };
  const bool any_small = std::any_of(layers.begin(), layers.end(), is_small);
  for (size_t i = 0; i < layers.size(); ++i) {
    WeightLayer& layer = layers[i];
    if (layer.in_float || is_small(layer) != any_small) continue;
    if (layer.weight.dim() != 2) {
      layer.record.remarks.emplace_back("no adapters: the weight is no matrix");
      continue;
    }
    if (rank > std::min(layer.weight.size(0), layer.weight.size(1))) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("lora_adapter_rank is {}, but the weight is {} x {}", rank, layer.weight.size(0),
                              layer.weight.size(1)),
                  layer.name, "set advanced_parameters.lora_adapter_rank to a smaller one, or ignore the layer");
    }
    ranks[i] = rank;
  }
  return ranks;
}

void insert_trainable_layer(Model& model, NewParameters& parameters, WeightLayer& layer,
                            const CompressedWeight& compressed, int64_t rank) {
  TrainableWeight trainable = trainable_weight(layer.weight, compressed);
  // Layers of equal shape begin with different noise, the same in every run.
  if (rank > 0) add_adapters(trainable, rank, output_axis(layer), std::hash<std::string>()(layer.name));
  insert_trainable_weight(model, parameters, layer.uses, trainable);
  layer.record.algorithms.push_back(rank > 0 ? fmt::format("trainable with adapters of rank {}", rank) : "trainable");
  layer.record.compressed_bytes = bytes_of(trainable);
  if (layer.record.error_after < 0) layer.record.error_after = error_of_values(layer.weight, trainable.value());
}

}  // namespace tsquant
