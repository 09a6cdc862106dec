#pragma once

#include <vector>

#include "compression/compressed_weight.h"
#include "graph/shared_weight.h"
#include "passes/new_parameters.h"
#include "tsquant/model.h"

namespace tsquant {

/// A float weight behind a quantizer of integers whose parameters are trained with it, by plain operators of LibTorch
/// (NNCF's CompressionFormat FQ and FQ_LORA).
struct TrainableWeight {
  at::Tensor weight;     ///< float, in the dtype that its readers see
  int64_t levels = 256;  ///< 2^bits
  /// The shape in which the parameters broadcast over the values; that of the weight without groups.
  std::vector<int64_t> groups;
  /// Without zero points: the scale times levels / 2, with the sign of NNCF's scales. Undefined otherwise.
  at::Tensor limit;
  /// With zero points: the lowest level, and the distance between the lowest and the highest one.
  at::Tensor low, range;
  at::Tensor lora_a, lora_b;   ///< [rank, in] and [out, rank], float32; undefined without adapters
  bool is_transposed = false;  ///< the weight is [in, out]

  /// Codes with the present parameters. @throws Error kInvalidArgument for values or parameters that are not finite
  CompressedWeight codes() const;
  /// What readers see.
  at::Tensor value() const;
};

/// @param weight     float
/// @param compressed gives the parameters. Where its codes are not those that rounding would choose, its values take
///                   the place of the weight's.
TrainableWeight trainable_weight(const at::Tensor& weight, const CompressedWeight& compressed);

/// Adds adapters of `rank`, which begin as noise of about a hundredth of a step: equal for equal weights and seeds.
/// @param output_axis of the weight, a matrix
void add_adapters(TrainableWeight& weight, int64_t rank, int64_t output_axis, uint64_t seed);

/// Gives all `uses` of a parameter the quantized weight. Beside the weight NAME stand NAME_limit, or NAME_low and
/// NAME_range, and NAME_lora_A and NAME_lora_B.
void insert_trainable_weight(Model& model, NewParameters& parameters, const std::vector<ParameterUse>& uses,
                             const TrainableWeight& weight);

/// A weight of that kind in a graph.
struct FoundTrainable {
  torch::jit::Node* last;    ///< gives the quantized weight
  torch::jit::Value* value;  ///< the stored weight
  TrainableWeight weight;
};
/// Those whose tensors are parameters and buffers that nothing writes.
std::vector<FoundTrainable> find_trainable_weights(Model& model);

/// Weights behind quantizers, their parameters and adapters require gradients; with adapters their weights do not, and
/// no other tensor does. Tensors that other models share are left alone.
void require_gradients(Model& model);

}  // namespace tsquant
