#pragma once

#include <torch/csrc/jit/api/module.h>

#include <string>

#include "tsquant/observer_module.h"

namespace tsquant {

/// torch.ao's class names, which ours are, too.
const char* class_name(ObserverType type);
const char* class_name(FakeQuantizeType type);
/// The last part of the name of a module's class; kNone or none when it is another.
c10::optional<ObserverType> observer_type(const torch::jit::Module& module);
FakeQuantizeType fake_quantize_type(const torch::jit::Module& module);

/// The observer itself, or the one inside of a fake quantize.
torch::jit::Module inner_observer(const torch::jit::Module& module);

}  // namespace tsquant
