#pragma once

#include <torch/csrc/jit/api/module.h>

#include <string>
#include <vector>

#include "tsquant/graph_view.h"

namespace tsquant::pt2e {

/// The class of a module as Python has it: "torch.nn.modules.conv.Conv2d".
std::string class_name(const torch::jit::Module& module);

/// Whether a path is a module's, or that of something in it; "" is the root.
bool is_inside(const std::string& path, const std::string& module);

/// The submodule that each operator of a view stands in, by its path in the state dict ("layer1.0").
///
/// Calls name the attribute that is called, not the containers around it (`0` for `self.blocks[0](x)`), so the path is
/// taken from the operator's parameters, and otherwise searched in the module; of several possible paths the one
/// nearest to the operator before it is taken.
class ModulePaths {
 public:
  explicit ModulePaths(const GraphView& view);

  /// Whether the node stands in the submodule or below it.
  bool in_module(const ViewNode& node, const std::string& module) const;
  /// Whether one of the modules around the node has this class: "Linear" or "torch.nn.modules.linear.Linear".
  bool in_module_type(const ViewNode& node, const std::string& type) const;

  /// Class of the module whose code calls the operator, "" when the operator stands in no module. A layer that calls
  /// functional::linear with the weight of a child runs the operator itself.
  const std::string& caller_type(const ViewNode& node) const { return caller_types_[node.id]; }
  /// Path of that module.
  const std::string& caller_path(const ViewNode& node) const { return caller_paths_[node.id]; }

  /// @throws Error kInvalidArgument naming the modules that come closest when no operator stands in `module`
  void require_module(const std::string& module, const std::string& option) const;
  /// @throws Error kInvalidArgument naming the classes of the model when no operator stands in such a module
  void require_module_type(const std::string& type, const std::string& option) const;

 private:
  const GraphView& view_;
  std::vector<std::string> paths_, caller_types_, caller_paths_;  ///< by node id
  std::vector<std::vector<std::string>> type_names_;  ///< by node id: classes from the root to the innermost module
};

}  // namespace tsquant::pt2e
