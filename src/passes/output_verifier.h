#pragma once

#include <string>

#include "passes/rewrite_registry.h"

namespace tsquant {

/// Verifies a model after rewrites. One run of the model serves all rewrites in a row that promise the same output.
class OutputVerifier {
 public:
  /// @param sample null: outputs are not compared
  /// @param tolerance relative to the largest magnitude of the output
  OutputVerifier(Model& model, const Sample* sample, double tolerance)
      : model_(model), sample_(sample), tolerance_(tolerance) {}

  /// To be called before a rewrite: remembers the output, where it is needed and not known yet.
  /// @throws Error kDataset when the model rejects the sample
  void prepare(const RewriteRow& row);

  /// To be called after a rewrite that changed something. @throws Error kInternal
  void check(const RewriteRow& row);

 private:
  void compare(const RewriteRow& row) const;
  bool repeats() const;

  Model& model_;
  const Sample* sample_;
  double tolerance_;
  c10::optional<c10::IValue> expected_;
  bool random_ = false;  ///< two runs of the model differ
};

/// What to do about a rewrite that fails.
std::string advice_for(const RewriteRow& row);

}  // namespace tsquant
