#include "passes/output_verifier.h"

#include <fmt/format.h>

#include "graph/node_lists.h"
#include "graph/verify.h"
#include "passes/compare_outputs.h"
#include "run/direct_run.h"
#include "run/tap_runner.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

bool may_draw_random_numbers(const Model& model) {
  const auto nodes = all_nodes(model.graph()->block());
  return std::any_of(nodes.begin(), nodes.end(), [](const auto* node) { return node->isNondeterministic(); });
}

/// Weights in a mapped file do not stay in memory for it.
c10::IValue output_on(const Model& model, const Sample& sample) {
  if (auto output = run_directly(model, sample, {}, WeightPages::kGiveBack)) return *std::move(output);
  return TapRunner(model, {}, /*deterministic=*/false, WeightPages::kGiveBack).run(sample, {});
}

[[noreturn]] void fail(const RewriteRow& row, const std::string& message) {
  throw Error(ErrorCode::kInternal, message, row.name, advice_for(row));
}

}  // namespace

std::string advice_for(const RewriteRow& row) {
  if (row.need == RewriteNeed::kRequired) return "please report this with the model";
  return fmt::format("please report this; --skip-pass {} (skip_passes) leaves the rewrite out", row.name);
}

void OutputVerifier::prepare(const RewriteRow& row) {
  if (!sample_ || random_ || expected_ || row.check != RewriteCheck::kSameOutput) return;
  expected_ = output_on(model_, *sample_);
  // Dropout counts as random as long as it is not known that the model is in evaluation mode: try.
  random_ = may_draw_random_numbers(model_) && !repeats();
  if (!random_) return;
  model_.warnings().push_back("the model draws random numbers; its output was not compared after rewrites");
}

void OutputVerifier::check(const RewriteRow& row) {
  try {
    verify_graph(model_, row.name);
  } catch (const Error& error) {
    fail(row, error.message());
  }
  if (row.check != RewriteCheck::kSameOutput) {
    expected_ = c10::nullopt;
  } else if (expected_ && !random_) {
    compare(row);
  }
}

void OutputVerifier::compare(const RewriteRow& row) const {
  OutputDifference difference;
  try {
    difference = compare_outputs(*expected_, output_on(model_, *sample_));
  } catch (const std::exception& error) {
    fail(row, fmt::format("the model no longer runs after the rewrite {}: {}", row.name, error.what()));
  }
  if (!difference.mismatch.empty()) {
    fail(row, fmt::format("the rewrite {} changes what the model computes: {}", row.name, difference.mismatch));
  }
  if (difference.relative > tolerance_) {
    fail(row, fmt::format("the rewrite {} changes what the model computes: relative difference {:.3g}, allowed {:.3g}",
                          row.name, difference.relative, tolerance_));
  }
}

bool OutputVerifier::repeats() const {
  const auto difference = compare_outputs(*expected_, output_on(model_, *sample_));
  return difference.mismatch.empty() && difference.relative == 0;
}

}  // namespace tsquant
