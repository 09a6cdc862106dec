#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <functional>

#include "run/weight_pages.h"
#include "tsquant/model.h"
#include "tsquant/sample.h"

namespace tsquant {

/// Called with every result of a node, and every input of the graph, as soon as it is there.
using ValueSink = std::function<void(const torch::jit::Value* value, const c10::IValue& content)>;

/// Runs the present graph once as it stands, without gradients: the operators that LibTorch's interpreter would call,
/// on the same tensors, in the same order. The interpreter first copies the graph, finds the operator of every node of
/// the copy anew and translates all of it, which takes several times as long as a run of small operators, and memory
/// that a large graph has to fetch again.
///
/// @param sink may be empty
/// @param pages of weights in a mapped file
/// @return nullopt when the graph has something that only the interpreter does (loops, calls, writes into what it
///         was given), or when
///         anything fails: TapRunner then runs the model, or says what is wrong
c10::optional<c10::IValue> run_directly(const Model& model, const Sample& sample, const ValueSink& sink,
                                        WeightPages pages = WeightPages::kKeep);

}  // namespace tsquant
