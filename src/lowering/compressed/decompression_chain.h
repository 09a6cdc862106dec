#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include "graph/shared_weight.h"
#include "lowering/compressed/stored_weight.h"
#include "passes/new_parameters.h"
#include "tsquant/model.h"

namespace tsquant {

/// Replaces a weight by its packed codes, which plain operators of LibTorch turn back into a float tensor for all
/// `uses`. The codes take the weight's state-dict name when nothing else reads that; beside it stand NAME_scale,
/// NAME_zero_point and NAME_table.
///
/// %w = prim::GetAttr[name="weight"](%linear)        (uint8, two codes in a byte)
/// %low = aten::bitwise_and(%w, 15)
/// %high = aten::bitwise_right_shift(%w, 4)
/// %u = aten::stack([%low, %high], -1)
/// %i = aten::sub(aten::to(%u, int8), 8, 1)          (symmetric; asymmetric: the zero point is subtracted below)
/// %f = aten::to(aten::reshape(%i, [out, groups, group_size]), float16)
/// %v = aten::mul(%f, %scale)
/// %weight = aten::to(aten::reshape(%v, [out, in]), float32)
///
/// The order of the operators is the one that OpenVINO's TorchScript front end recognises as a compressed weight
/// (utils_quantize.cpp, u4_block_repack.cpp). Formats with a table look their levels up with aten::take.
/// @return the last operator
torch::jit::Node* insert_decompression(Model& model, NewParameters& parameters, const std::vector<ParameterUse>& uses,
                                       const StoredWeight& weight);

/// A compressed weight in a graph, and where its tensors are read; null for those that it does not have.
struct Decompression {
  StoredWeight weight;
  const torch::jit::Value* codes = nullptr;
  const torch::jit::Value* scale = nullptr;
  const torch::jit::Value* zero_point = nullptr;
  const torch::jit::Value* table = nullptr;
};

/// What is behind a tensor that such operators make; nullopt for everything else.
/// @param check compute the operators, since others may only look like these; false for what insert_decompression wrote
c10::optional<Decompression> read_decompression(const Model& model, const torch::jit::Value* weight, bool check = true);

}  // namespace tsquant
