#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>

#include "tsquant/model.h"

namespace tsquant {

/// The names of one operator. They are written into the node's scope at capture ("<name>@<fx_name>"), so that they
/// survive passes and graph copies and show up in printed graphs.
struct NodeNames {
  std::string name;     ///< `layer1/0/conv1/conv2d/0`
  std::string fx_name;  ///< `conv2d_4`
  std::string type() const;  ///< function name, the part of `name` before the ordinal: `conv2d`
};

/// Gives every operator of a freshly inlined graph its names, from the inlined call stack.
void assign_names(Model& model);

/// Reads the names from the scope; empty strings for nodes that a pass created without naming them.
NodeNames names_of(const torch::jit::Node* node);
void set_names(torch::jit::Node* node, const NodeNames& names);
/// For passes: `to` takes over the names of `from`; `type`, when given, replaces the function name.
void copy_names(const torch::jit::Node* from, torch::jit::Node* to);

}  // namespace tsquant
