#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <vector>

#include "tsquant/model.h"
#include "tsquant/sample.h"

namespace tsquant {

/// What a rewrite works on.
struct RewriteContext {
  RewriteContext(Model& rewritten, std::vector<std::string>& notes, const Sample* first_sample = nullptr)
      : model(rewritten), warnings(notes), sample(first_sample) {}

  Model& model;
  std::vector<std::string>& warnings;
  const Sample* sample;  ///< lets a pass look at shapes; may be null

  /// Called by rewrites before they look at an operator, for the error when something throws there.
  void at(const torch::jit::Node* operation);
  /// The name of that operator, "" before the first. Only errors need it, so it is not read off before.
  std::string node() const;

 private:
  torch::jit::ScopePtr scope_ = {};  ///< holds the names; unlike the operator it outlives what the rewrite destroys
  c10::Symbol kind_;
  bool started_ = false;
};

/// A rewrite that needs nothing but the model: returns whether the graph changed.
using Pass = bool (*)(RewriteContext& ctx);

#define TSQUANT_PASS(name, ...) bool name(RewriteContext& ctx);
#include "passes/registry.inc"

}  // namespace tsquant
