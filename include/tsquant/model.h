#pragma once

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "tsquant/dataset.h"

namespace tsquant {

/// What to do with a module that is in training mode.
enum class TrainingMode {
  kRefuse,  ///< throw Error(kUnsupportedModel)
  kSwitch,  ///< call eval() on the copy and record a warning
};

/// How a module is captured.
struct CaptureOptions {
  /// Models saved in training mode compute dropout and batch statistics; quantizing them is almost never meant.
  TrainingMode training_mode = TrainingMode::kSwitch;
};

/// A captured TorchScript module with one inlined `forward` (control flow stays as blocks).
///
/// The model owns a copy of the module's types and code; tensors are shared until they are replaced, and the caller's
/// module is never changed. Parameters and buffers keep their state-dict names, other methods and attributes survive.
/// Every operator carries its stable name (see graph_view.h) in its scope, so a printed graph shows the names.
///
/// ```cpp
/// auto model = tsquant::Model::load("model.pt");
/// model.save("copy.pt");
/// ```
class Model {
 public:
  /// Loads an archive written by `torch.jit.save` or `torch::jit::Module::save` onto the CPU.
  /// @throws Error kModelLoad: missing file, truncated archive, no TorchScript archive, or operators that no loaded
  ///         library defines (the message lists them); kUnsupportedModel: see `from`
  static Model load(const std::string& path, const CaptureOptions& options = {});

  /// Captures a module that is already in memory.
  /// @throws Error kUnsupportedModel when it has no `forward`, or is in training mode and `options` refuses that
  static Model from(const torch::jit::Module& module, const CaptureOptions& options = {});

  /// The inlined forward graph. Input 0 is `self`. Passes edit it in place.
  std::shared_ptr<torch::jit::Graph> graph() const;

  /// The module that owns the graph. Its `forward` must not be run while the graph is still being edited, because
  /// LibTorch caches an optimised copy at the first run; use `finished_module` to obtain a runnable module.
  torch::jit::Module& module() { return module_; }
  const torch::jit::Module& module() const { return module_; }

  /// An independent, runnable module with the present graph.
  torch::jit::Module finished_module() const;

  /// A model that can be edited without changing this one. Tensors are shared until they are replaced.
  Model clone() const;

  /// Writes the archive beside `path` and renames it, so that `path` holds either the old or the complete new file.
  /// @param extra_files named texts stored in the archive (`extra/<name>`), such as the report and the needed engine
  /// @throws Error kIo
  void save(const std::string& path, const std::unordered_map<std::string, std::string>& extra_files = {}) const;

  /// Runs the present graph once, in inference mode, without LibTorch's optimiser.
  /// @throws Error kDataset when the sample does not fit the inputs of `forward`
  c10::IValue run(const Sample& sample) const;

  /// Names of the arguments of `forward`, without self.
  std::vector<std::string> input_names() const;

  /// Remarks made while capturing, for example that training mode was switched off.
  const std::vector<std::string>& warnings() const { return warnings_; }
  std::vector<std::string>& warnings() { return warnings_; }

 private:
  torch::jit::Module module_;
  std::vector<std::string> warnings_;
};

}  // namespace tsquant
