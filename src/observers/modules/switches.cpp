#include <ATen/ATen.h>

#include "tsquant/observer_module.h"

namespace tsquant {

namespace {

void set_flag(const torch::jit::Module& module, const char* name, bool on) {
  if (module.hasattr(name) && module.attr(name).isTensor()) module.attr(name).toTensor().fill_(on ? 1 : 0);
}

/// A learnable fake quantize either follows its observer or learns.
void switch_observer(const torch::jit::Module& module, bool on) {
  for (const torch::jit::Module& each : module.modules()) {
    set_flag(each, "observer_enabled", on);
    set_flag(each, "static_enabled", on);
    set_flag(each, "learning_enabled", !on);
  }
}

void switch_fake_quant(const torch::jit::Module& module, bool on) {
  for (const torch::jit::Module& each : module.modules()) set_flag(each, "fake_quant_enabled", on);
}

}  // namespace

void enable_observer(torch::jit::Module& module) { switch_observer(module, true); }
void disable_observer(torch::jit::Module& module) { switch_observer(module, false); }
void enable_fake_quant(torch::jit::Module& module) { switch_fake_quant(module, true); }
void disable_fake_quant(torch::jit::Module& module) { switch_fake_quant(module, false); }

}  // namespace tsquant
