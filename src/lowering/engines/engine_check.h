#pragma once

#include "lowering/engines/engine.h"
#include "tsquant/model.h"

namespace tsquant {

/// LibTorch packs the weights of its quantized operators while it loads a file, for the engine that is selected then.
/// Adds a submodule, plain TorchScript, that stops the loading under another kind of engine, or on a processor whose
/// arithmetic saturates, with a message that says what to select.
void add_engine_check(Model& model, const Engine& engine);

}  // namespace tsquant
