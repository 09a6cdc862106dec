#pragma once

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tsquant/sample.h"

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
/// module is never changed. Parameters and buffers keep their state-dict names. What the archive carried besides
/// survives: other methods of the module, attributes, constants, tensors that only the program around the model reads,
/// and extra files. Calls through module interfaces and torch.jit.fork are part of the one graph: a fork runs where it
/// stands. Every operator carries its stable name (see graph_view.h) in its scope, so a printed graph shows the names.
///
/// ```cpp
/// auto model = tsquant::Model::load("model.pt");
/// model.save("copy.pt");
/// ```
class Model {
 public:
  /// Loads an archive written by `torch.jit.save` or `torch::jit::Module::save` onto the CPU, with its extra files.
  /// @throws Error kModelLoad: missing file, truncated archive, no TorchScript archive, or operators that no loaded
  ///         library defines (the message lists them); kUnsupportedModel: see `from`
  static Model load(const std::string& path, const CaptureOptions& options = {});

  /// Captures a module that is already in memory.
  /// @throws Error kUnsupportedModel when it has no `forward`, is in training mode and `options` refuses that, or calls
  ///         code that is known at run time only (an interface attribute that forward assigns, a future from outside)
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

  /// The same module captured anew, with calls of `forward` of some submodules left as calls (prim::CallMethod): what
  /// they run is not part of the graph.
  /// A model with `set_original` is captured from the original one.
  /// @param paths of the submodules ("layer1.0"), none inside of another one
  /// @throws Error kUnsupportedModel when the graph was edited since it was captured (or graph or tensors since
  ///         `set_original`), or when forward calls another method of such a submodule
  Model capture_with_calls(const std::set<std::string>& paths) const;

  /// Remembers the model that this one was made of by rewrites which whoever captures it anew runs, too (fx::fuse_fx).
  void set_original(const Model& original);

  /// Writes the archive beside `path` and renames it, so that `path` holds either the old or the complete new file.
  /// @param extra_files files to store in the archive (`extra/<name>`) besides those that the model carries, such as
  ///                    the report and the needed engine; they replace carried files of the same name
  /// @throws Error kIo; kInternal when LibTorch cannot write the graph
  void save(const std::string& path, const std::unordered_map<std::string, std::string>& extra_files = {}) const;

  /// Runs the present graph once, in inference mode, without LibTorch's optimiser.
  /// @throws Error kDataset when the sample does not fit the inputs of `forward`
  c10::IValue run(const Sample& sample) const;

  /// The extra files of the archive that the model was loaded from (`torch.jit.save(..., _extra_files=)`), by name,
  /// with their content, binary or not. `save` writes them unchanged. Names that begin with `tsquant_` are ours: saving
  /// a quantized model replaces `tsquant_report.json`, `tsquant_form` and `tsquant_engine`.
  ///
  /// ```cpp
  /// auto model = tsquant::Model::load("detector.pt");
  /// auto files = model.extra_files();
  /// files["config.txt"] = "stride 32";
  /// model.set_extra_files(files);
  /// ```
  const std::map<std::string, std::string>& extra_files() const { return *extra_files_; }
  void set_extra_files(std::map<std::string, std::string> files);

  /// State-dict names of tensors, and of containers of tensors, that neither `forward` nor another method read when the
  /// model was captured. They are kept as they are, because the program around the model may read them. A container
  /// that only lists tensors which are attributes, too (`_flat_weights` of recurrent layers), is not among them, nor is
  /// another name of a tensor that is read (tied weights): it lasts as long as that tensor.
  const std::set<std::string>& unread_at_capture() const { return *unread_; }

  /// Names of the arguments of `forward`, without self.
  std::vector<std::string> input_names() const;

  /// Remarks made while capturing, for example that training mode was switched off.
  const std::vector<std::string>& warnings() const { return warnings_; }
  std::vector<std::string>& warnings() { return warnings_; }

 private:
  /// What `forward` was before calls in it were inlined. Shared by clones; types of modules in it may be those of
  /// another clone.
  struct Source {
    std::shared_ptr<torch::jit::Graph> forward;
    size_t flat_nodes = 0;  ///< hash of the kinds of all nodes after inlining
    std::shared_ptr<const Model> original;
    std::vector<std::pair<const void*, uint64_t>> tensors;  ///< and their versions, beside the original
  };

  torch::jit::Module module_;
  std::shared_ptr<const Source> source_;
  std::vector<std::string> warnings_;
  // Shared by clones, because extra files can be large.
  std::shared_ptr<const std::map<std::string, std::string>> extra_files_ =
      std::make_shared<const std::map<std::string, std::string>>();
  std::shared_ptr<const std::set<std::string>> unread_ = std::make_shared<const std::set<std::string>>();
};

}  // namespace tsquant
