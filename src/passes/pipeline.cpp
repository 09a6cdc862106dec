#include <fmt/format.h>

#include <chrono>
#include <filesystem>

#include "base/error_text.h"
#include "graph/dead_code.h"
#include "graph/names.h"
#include "graph/node_lists.h"
#include "io/output_file.h"
#include "passes/compare_outputs.h"
#include "passes/passes.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

bool may_draw_random_numbers(const Model& model) {
  const auto nodes = all_nodes(model.graph()->block());
  return std::any_of(nodes.begin(), nodes.end(), [](const auto* node) { return node->isNondeterministic(); });
}

/// Operators that write into their arguments must not change the sample for the next run.
Sample copy_of(const Sample& sample) {
  Sample copy;
  for (const auto& value : sample.args) copy.args.push_back(value.deepcopy());
  for (const auto& [name, value] : sample.kwargs) copy.kwargs.emplace(name, value.deepcopy());
  return copy;
}

std::string advice_for(const std::string& pass) {
  return "please report this; --skip-pass " + pass + " (skip_passes) leaves the pass out";
}

/// Compares the model with what it computed before the first pass.
class Verifier {
 public:
  Verifier(Model& model, const PipelineOptions& options) : options_(options) {
    if (!options.sample) return;
    expected_ = model.run(copy_of(*options.sample));
    // Dropout counts as random as long as it is not known that the model is in evaluation mode: try.
    active_ = !may_draw_random_numbers(model) || repeats(model);
    if (!active_) {
      model.warnings().push_back("the model draws random numbers; its output was not compared after the passes");
    }
  }

  void check(const Model& model, const std::string& pass) const {
    const std::string advice = advice_for(pass);
    try {
      model.graph()->lint();
    } catch (const std::exception& error) {
      throw Error(ErrorCode::kInternal, fmt::format("pass {} left an invalid graph: {}", pass, error.what()), pass,
                  advice);
    }
    if (!active_) return;
    OutputDifference difference;
    try {
      difference = compare_outputs(expected_, model.run(copy_of(*options_.sample)));
    } catch (const std::exception& error) {
      throw Error(ErrorCode::kInternal, fmt::format("the model no longer runs after pass {}: {}", pass, error.what()),
                  pass, advice);
    }
    if (difference.relative > options_.tolerance || !difference.mismatch.empty()) {
      const std::string what = difference.mismatch.empty() ? fmt::format("relative difference {:.3g}, allowed {:.3g}",
                                                                         difference.relative, options_.tolerance)
                                                           : difference.mismatch;
      throw Error(ErrorCode::kInternal, fmt::format("pass {} changes what the model computes: {}", pass, what), pass,
                  advice);
    }
  }

 private:
  bool repeats(const Model& model) const {
    const auto difference = compare_outputs(expected_, model.run(copy_of(*options_.sample)));
    return difference.mismatch.empty() && difference.relative == 0;
  }

  const PipelineOptions& options_;
  c10::IValue expected_;
  bool active_ = false;
};

void check_names(const std::vector<std::string>& skip) {
  std::vector<std::string> known;
  for (const auto& pass : all_passes()) known.push_back(pass.name);
  for (const auto& name : skip) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("there is no pass \"{}\"", name), "",
                  fmt::format("the passes are {}", fmt::join(known, ", ")));
    }
  }
}

void dump(const Model& model, const std::string& dir, size_t index, const std::string& pass) {
  const std::string path = fmt::format("{}/{:03}_{}.ir", dir, index, pass);
  std::error_code ignored;
  std::filesystem::create_directories(dir, ignored);
  write_file(path, "graph", model.graph()->toString(/*print_source_locations=*/false));
}

}  // namespace

const std::vector<NamedPass>& all_passes() {
  static const std::vector<NamedPass> passes = {
#define TSQUANT_PASS(name, phase) {#name, name, PassPhase::phase},
#include "passes/registry.inc"
#undef TSQUANT_PASS
  };
  return passes;
}

void PassContext::at(const torch::jit::Node* operation) {
  node = names_of(operation).name;
  if (node.empty()) node = operation->kind().toQualString();
}

bool run_pass(const NamedPass& pass, PassContext& context) {
  context.node.clear();
  auto graph = context.model.graph();
  // WithInsertPoint restores the point that it found, in a destructor: it must not be a node that a pass destroys.
  graph->setInsertPoint(graph->block());
  try {
    const bool changed = pass.run(context);
    if (changed) remove_dead_code(graph);
    return changed;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    std::throw_with_nested(Error(ErrorCode::kInternal,
                                 fmt::format("pass {} failed: {}", pass.name, short_message(error)),
                                 context.node.empty() ? pass.name : context.node, advice_for(pass.name)));
  }
}

std::vector<PassRecord> run_passes(Model& model, const PipelineOptions& options) {
  check_names(options.skip);
  const Verifier verifier(model, options);
  PassContext context{model, model.warnings(), options.sample};
  std::vector<PassRecord> records;
  for (size_t i = 0; i < all_passes().size(); ++i) {
    const auto& pass = all_passes()[i];
    if (pass.phase != options.phase) continue;
    if (std::find(options.skip.begin(), options.skip.end(), pass.name) != options.skip.end()) continue;
    const auto start = std::chrono::steady_clock::now();
    PassRecord record{pass.name, run_pass(pass, context), 0};
    record.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (record.changed) {
      verifier.check(model, pass.name);
      if (!options.dump_dir.empty()) dump(model, options.dump_dir, i, pass.name);
    }
    records.push_back(record);
  }
  return records;
}

}  // namespace tsquant
