#pragma once

#include <torch/csrc/jit/api/module.h>

#include <map>
#include <set>
#include <string>

#include "lowering/observer_calls.h"
#include "tsquant/annotation.h"
#include "tsquant/model.h"

namespace tsquant {

/// Attribute of the root module: batch norms use and update the statistics of batches while training.
constexpr const char* kNormUpdate = "update_bn_stats";

/// A layer and the batch norm behind it, by stable name.
using NormPairs = std::map<std::string, std::string>;

/// The pairs of `model` that fold_batch_norm made one operator of in `folded`, a copy of it.
NormPairs folded_norms(const Model& model, const Model& folded);

/// What was decided about the folded layers, said about the pairs: a quantizer behind a layer stands behind its norm.
Annotations unfolded(Annotations annotations, const NormPairs& pairs);

/// Makes a graph that was captured in evaluation mode one that can be trained: dropout and batch norms, which are
/// constants there, follow the module's `training`; batch norms also `update_bn_stats`.
///
/// A convolution, transposed or not, or a linear layer with a norm in `pairs` and a fake-quantized weight becomes a
/// block `conv_bn_0`, `_1`,
/// ... that quantizes the weight as it will be after folding (torch.ao's ConvBn2d and LinearBn1d, Jacob et al. 2018
/// section 3.2): y = batch_norm(conv(x, fq(w * k)) / k + b) with k = gamma / sqrt(running_var + eps); channels with
/// gamma 0 have k = 1. The block owns the weight's module; parameters and statistics keep their places.
/// @param names of the weights' observers become those of the blocks
/// @return whether something changed
bool make_trainable(Model& model, const NormPairs& pairs, const Annotations& annotations, ObserverNames& names);

/// The way back, to evaluation mode and plain operators. @return the blocks' weight modules by block
std::map<std::string, torch::jit::Module> remove_trainable(torch::jit::Module& module);

}  // namespace tsquant
