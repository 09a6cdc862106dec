#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <vector>

#include "tsquant/model.h"

namespace tsquant {

/// The names of one operator. They are written into the node's scope at capture
/// ("<name>@<fx_name>[@<function>[@<element>,...]]"), so that they survive passes and graph copies and show up in
/// printed graphs.
struct NodeNames {
  std::string name;                   ///< `layer1/0/conv1/conv2d/0`
  std::string fx_name;                ///< `conv2d_4`
  std::string function;               ///< aten spelling where it differs from the one in `name`: `hardswish_`
  std::vector<std::string> elements;  ///< FX aliases of the results of an operator with several: `getitem_1`
  /// Function name: `function`, or the part of `name` before the ordinal.
  std::string type() const;
};

/// Gives every operator of a freshly inlined graph its names, from the inlined call stack.
void assign_names(Model& model);

/// Reads the names from the scope; empty strings for nodes that a pass created without naming them.
NodeNames names_of(const torch::jit::Node* node);
/// The same from a scope that was kept, so that the node may be gone.
NodeNames names_in(const torch::jit::ScopePtr& scope);
void set_names(torch::jit::Node* node, const NodeNames& names);
/// For passes: `to` takes over the names of `from`.
void copy_names(const torch::jit::Node* from, torch::jit::Node* to);

}  // namespace tsquant
