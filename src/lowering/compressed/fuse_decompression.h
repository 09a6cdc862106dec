#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <map>
#include <set>
#include <string>

#include "tsquant/model.h"

namespace tsquant {

/// What the inputs of linear layers are while a lowered model runs.
enum class ActivationMode {
  kFloat,
  kDynamic,  ///< int8 codes, with scales found from the values
};

/// Replaces the operators that unpack compressed weights by operators of libtsquant_ops.so that read the packed codes:
/// tsquant::linear_compressed for linear layers and products with a matrix on the right, tsquant::embedding_compressed,
/// and in front of everything else tsquant::decompress. Freezing does not fold them back into float weights, because
/// each takes an activation. With ActivationMode::kDynamic tsquant::linear_compressed_dynamic takes the place of
/// tsquant::linear_compressed where it can read the codes. Codes and scales keep their values and their state-dict
/// names; rows are laid out along the summed axis.
/// @param written last operators that insert_decompression returned for this graph: these need not be computed to know
///                what they give
/// @param kernels filled: by the weight's name the operator that reads it, and why not another one; or why it stays
/// with
///                plain operators
/// @return whether something changed
bool fuse_decompression(Model& model, const std::set<const torch::jit::Node*>& written,
                        std::map<std::string, std::string>& kernels,
                        ActivationMode activations = ActivationMode::kFloat);

/// Back to the plain operators, without loss; they compute with float activations.
bool unfuse_decompression(Model& model);

/// Whether a node is one of those operators.
bool is_fused_decompression(const torch::jit::Node* node);

/// Whether linear layers quantize their inputs while the model runs (ActivationMode::kDynamic).
bool has_dynamic_activations(const Model& model);

/// Compressed weights that plain operators read become the float tensors that these compute, under the same names.
/// @return whether something changed
bool decompress_in_place(Model& model);

/// Whether the model has such weights, in either form.
bool has_compressed_weights(const Model& model);

}  // namespace tsquant
