#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tsquant/model.h"

namespace tsquant {

/// What a pass works on.
struct PassContext {
  Model& model;
  std::vector<std::string>& warnings;
  const Sample* sample = nullptr;  ///< lets a pass look at shapes; may be null
  std::string node = {};           ///< operator that the pass works on, for the error when something throws there

  /// Called by passes before they look at an operator.
  void at(const torch::jit::Node* operation);
};

/// One float-to-float rewrite: returns whether the graph changed.
using Pass = bool (*)(PassContext& ctx);

/// When a pass runs: before the quantizer looks at the graph, or after Q/DQ pairs have been inserted.
enum class PassPhase { kBeforeAnnotation, kAfterInsertion };

struct NamedPass {
  const char* name;
  Pass run;
  PassPhase phase;
};

/// The passes in the order in which they run (registry.inc).
const std::vector<NamedPass>& all_passes();

/// Runs one pass and removes what it left unused.
/// @throws Error kInternal naming the pass and the operator it was at, for everything that LibTorch throws in it
bool run_pass(const NamedPass& pass, PassContext& context);

struct PipelineOptions {
  PassPhase phase = PassPhase::kBeforeAnnotation;
  std::vector<std::string> skip;   ///< names of passes to leave out; unknown names are an error
  const Sample* sample = nullptr;  ///< when given, the float output after every pass is compared with the original
  double tolerance = 1e-5;         ///< relative to the largest magnitude of the output
  std::string dump_dir;            ///< when not empty, NNN_<pass>.ir is written after each pass that changed something
};

struct PassRecord {
  std::string name;
  bool changed = false;
  double seconds = 0;
};

/// Runs the passes of one phase.
/// @throws Error kInternal naming the pass whose result differs, or in which LibTorch threw, with the operator it was
/// at;
///         kInvalidArgument for unknown names
std::vector<PassRecord> run_passes(Model& model, const PipelineOptions& options = {});

#define TSQUANT_PASS(name, phase) bool name(PassContext& ctx);
#include "passes/registry.inc"
#undef TSQUANT_PASS

}  // namespace tsquant
