#pragma once

#include <functional>
#include <string>
#include <vector>

#include "passes/output_verifier.h"
#include "tsquant/report.h"

namespace tsquant {

struct RewriteOptions {
  std::vector<std::string> skip;   ///< names of rewrites to leave out
  const Sample* sample = nullptr;  ///< when given, rewrites that promise the same output are held to it
  double tolerance = 1e-5;         ///< relative to the largest magnitude of the output
  std::string dump_dir;            ///< when not empty, the graph is written after each rewrite (graph_dumps.h)
};

/// Runs the rewrites of one model: leaves out, times, verifies, dumps and records them.
///
/// ```cpp
/// RewriteRunner runner(model, options);
/// runner.run_passes(RewritePhase::kFloat);
/// runner.run("to_decomposed_form", to_decomposed_form);
/// ```
class RewriteRunner {
 public:
  /// Returns whether something changed.
  using Rewrite = std::function<bool(RewriteContext& ctx)>;

  /// @throws Error kInvalidArgument when the options skip what cannot be left out
  explicit RewriteRunner(Model& model, const RewriteOptions& options = {});

  Model& model() { return model_; }

  /// All passes of a phase, in the order of the registry.
  void run_passes(RewritePhase phase);

  /// One rewrite of the registry; what it left unused goes too when it is a pass. Returns whether it changed something;
  /// false when it is skipped.
  /// @throws Error kInternal naming the rewrite whose result is not as promised, or in which LibTorch threw, with the
  ///         operator it was at; what the rewrite itself throws as Error
  bool run(const std::string& name, const Rewrite& rewrite);
  /// One that needs nothing but the model.
  bool run(const std::string& name, bool (*rewrite)(Model& model));
  /// One pass by name.
  bool run_pass(const std::string& name);

  bool skips(const std::string& name) const;

  /// What was run so far.
  const std::vector<RewriteRecord>& records() const { return records_; }

 private:
  bool run(const RewriteRow& row, const Rewrite& rewrite);
  bool perform(const RewriteRow& row, const Rewrite& rewrite);

  Model& model_;
  RewriteOptions options_;
  OutputVerifier verifier_;
  std::vector<RewriteRecord> records_;
};

/// Runs the passes that stand before annotation, for whoever needs no more of the road.
std::vector<RewriteRecord> run_passes(Model& model, const RewriteOptions& options = {});

}  // namespace tsquant
