#include "passes/rewrite_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/error_text.h"
#include "graph/dead_code.h"
#include "graph/names.h"
#include "passes/graph_dumps.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

const RewriteRow& row_named(const std::string& name) {
  if (const RewriteRow* row = find_rewrite(name)) return *row;
  throw Error(ErrorCode::kInternal, fmt::format("no rewrite {} is registered", name), name,
              "give it a line in registry.inc");
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

void RewriteContext::at(const torch::jit::Node* operation) {
  scope_ = const_cast<torch::jit::Node*>(operation)->scope();  // scope() is not const in 1.13
  kind_ = operation->kind();
  started_ = true;
}

std::string RewriteContext::node() const {
  if (!started_) return "";
  const std::string name = names_in(scope_).name;
  return name.empty() ? kind_.toQualString() : name;
}

RewriteRunner::RewriteRunner(Model& model, const RewriteOptions& options)
    : model_(model), options_(options), verifier_(model, options.sample, options.tolerance) {
  check_skipped(options.skip);
}

void RewriteRunner::run_passes(RewritePhase phase) {
  for (const auto& row : all_rewrites()) {
    if (row.pass && row.phase == phase) run(row, row.pass);
  }
}

bool RewriteRunner::run(const std::string& name, const Rewrite& rewrite) { return run(row_named(name), rewrite); }

bool RewriteRunner::run(const std::string& name, bool (*rewrite)(Model& model)) {
  return run(name, [rewrite](RewriteContext& ctx) { return rewrite(ctx.model); });
}

bool RewriteRunner::run_pass(const std::string& name) {
  const RewriteRow& row = row_named(name);
  return run(row, row.pass);
}

bool RewriteRunner::skips(const std::string& name) const {
  return std::find(options_.skip.begin(), options_.skip.end(), name) != options_.skip.end();
}

bool RewriteRunner::run(const RewriteRow& row, const Rewrite& rewrite) {
  if (skips(row.name)) return false;
  verifier_.prepare(row);
  const auto start = std::chrono::steady_clock::now();
  const bool changed = perform(row, rewrite);
  records_.push_back({row.name, phase_name(row.phase), changed, seconds_since(start)});
  if (!changed) return false;
  verifier_.check(row);
  if (!options_.dump_dir.empty()) dump_after(row, options_.dump_dir, model_);
  return true;
}

bool RewriteRunner::perform(const RewriteRow& row, const Rewrite& rewrite) {
  RewriteContext context{model_, model_.warnings(), options_.sample};
  auto graph = model_.graph();
  // WithInsertPoint restores the point that it found, in a destructor: it must not be a node that a rewrite destroys.
  graph->setInsertPoint(graph->block());
  try {
    const bool changed = rewrite(context);
    if (changed && row.pass) remove_dead_code(graph);
    return changed;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    std::throw_with_nested(Error(ErrorCode::kInternal,
                                 fmt::format("the rewrite {} failed: {}", row.name, short_message(error)),
                                 context.node().empty() ? row.name : context.node(), advice_for(row)));
  }
}

std::vector<RewriteRecord> run_passes(Model& model, const RewriteOptions& options) {
  RewriteRunner runner(model, options);
  runner.run_passes(RewritePhase::kFloat);
  return runner.records();
}

}  // namespace tsquant
