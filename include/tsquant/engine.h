#pragma once

#include <string>
#include <vector>

#include "tsquant/model.h"

namespace tsquant {

/// "tsquant", the kernels of libtsquant_ops.so, followed by the quantized engines of this LibTorch build ("fbgemm",
/// "onednn", "qnnpack") that add products of bytes exactly on this processor: oneDNN and FBGEMM need VNNI for that.
/// "none" is left out.
std::vector<std::string> available_engines();

/// The engine that the lowered form uses when none is named: "tsquant" on every machine, so that files are the same
/// and give the same integers everywhere.
std::string default_engine();

/// Selects a LibTorch quantized engine for the current scope and restores the previous one.
class EngineGuard {
 public:
  /// @throws Error kBackendUnavailable when this build does not have it, or it saturates on this processor; the message
  ///         lists the engines that can be used
  explicit EngineGuard(const std::string& engine);
  ~EngineGuard();
  EngineGuard(const EngineGuard&) = delete;
  EngineGuard& operator=(const EngineGuard&) = delete;

 private:
  int previous_;
};

/// Loads a quantized model: reads the engine recorded in the archive, selects it (for the whole process, because
/// packed weights need it at every call) and returns the module.
/// @throws Error kModelLoad, kBackendUnavailable
torch::jit::Module load_quantized(const std::string& path);

}  // namespace tsquant
