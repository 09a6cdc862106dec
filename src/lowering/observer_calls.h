#pragma once

#include <torch/csrc/jit/api/module.h>

#include <map>
#include <string>
#include <vector>

#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"
#include "tsquant/model.h"

namespace tsquant {

/// Names of the observer modules by point; points of a unified group share one.
using ObserverNames = std::map<int64_t, std::string>;

/// Puts a call of an observer module (observer_module.h) where each point stands: `activation_post_process_0`, `_1`,
/// ... of the root module. Points that say the same about one tensor share a module. Weights get one only when they are
/// fake-quantized, because the weights of a model that is calibrated do not change. Points that cannot be inserted (the
/// tensor is written in place) leave `annotations` for a refusal. `view` is invalid afterwards.
/// @param names of the modules that were inserted
/// @return whether something changed
bool insert_observers(Model& model, const GraphView& view, Annotations& annotations, ObserverNames& names);

/// The way back: calls and submodules named like that disappear from `module`, and are returned by name.
std::map<std::string, torch::jit::Module> remove_observers(torch::jit::Module& module);

}  // namespace tsquant
