#pragma once

#include <functional>
#include <set>
#include <string>

#include "tsquant/model.h"

namespace tsquant {

/// Makes `forward` one graph: calls of methods and functions are replaced by what they run.
///
/// - `torch.jit.fork` and `wait` become a plain call: what was to run beside the caller runs at the fork, and a future
///   is its result. Futures may be kept in lists and tuples, and handed over.
/// - A call of the module that a container holds at a computed position (`m: Interface = self.layers[i]`) becomes a
///   prim::If over the modules of the container.
/// - Calls of modules that are kept apart (module_calls.h) stay, and those of `kept_modules`, given by their paths.
///
/// @throws Error kUnsupportedModel for another method than forward of these, and for calls that stay unknown until run
///         time, with their place in the source: futures that no fork of this model made, and interface attributes that
///         the model assigns
void flatten_calls(Model& model, const std::set<std::string>& kept_modules = {});

/// The submodule that a prim::CallMethod is for ("layer1.0"), or "" when it is no attribute of self.
std::string receiver_path(const torch::jit::Graph& graph, const torch::jit::Node* call);

/// The same for any graph, except calls for which `keep` says so, and without errors: what cannot be known stays.
void expand_calls(torch::jit::Graph& graph, const std::function<bool(const torch::jit::Node*)>& keep);

}  // namespace tsquant
