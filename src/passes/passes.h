#pragma once

#include <string>
#include <vector>

#include "tsquant/model.h"
#include "tsquant/sample.h"

namespace tsquant {

/// What a rewrite works on.
struct RewriteContext {
  Model& model;
  std::vector<std::string>& warnings;
  const Sample* sample = nullptr;  ///< lets a pass look at shapes; may be null
  std::string node = {};           ///< operator that the rewrite works on, for the error when something throws there

  /// Called by rewrites before they look at an operator.
  void at(const torch::jit::Node* operation);
};

/// A rewrite that needs nothing but the model: returns whether the graph changed.
using Pass = bool (*)(RewriteContext& ctx);

#define TSQUANT_PASS(name, ...) bool name(RewriteContext& ctx);
#include "passes/registry.inc"

}  // namespace tsquant
