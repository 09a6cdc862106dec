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
};

/// One float-to-float rewrite: returns whether the graph changed.
using Pass = bool (*)(PassContext& ctx);

struct NamedPass {
  const char* name;
  Pass run;
};

/// The passes in the order in which they run (registry.inc).
const std::vector<NamedPass>& all_passes();

struct PipelineOptions {
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

/// Runs all passes. @throws Error kInternal naming the pass whose result differs, kInvalidArgument for unknown names
std::vector<PassRecord> run_passes(Model& model, const PipelineOptions& options = {});

#define TSQUANT_PASS(name) bool name(PassContext& ctx);
#include "passes/registry.inc"
#undef TSQUANT_PASS

}  // namespace tsquant
