#pragma once

#include <string>
#include <vector>

#include "passes/passes.h"

namespace tsquant {

/// Where a rewrite stands on the road from a float model to a quantized one.
enum class RewritePhase {
  kFloat,      ///< before the quantizer looks at the graph
  kQuantizer,  ///< what the quantizer asks for
  kAlgorithm,  ///< changes weights and biases by what data say
  kInsertion,  ///< quantize and dequantize
  kForm,       ///< the output form
  kLowering,   ///< the integer kernels of an engine
  kFinish,     ///< for the file
  kStrip,      ///< strip()
};

/// Whether a run may leave a rewrite out by name.
enum class RewriteNeed { kOptional, kRequired };

/// What is verified after a rewrite that changed something.
enum class RewriteCheck {
  kGraph,       ///< the graph's invariants (verify_graph)
  kSameOutput,  ///< these, and the output on the sample
};

/// A line of registry.inc.
struct RewriteRow {
  const char* name;
  RewritePhase phase;
  RewriteNeed need;
  RewriteCheck check;
  Pass pass;  ///< null: performed by its caller
};

/// All rewrites in the order of the road.
const std::vector<RewriteRow>& all_rewrites();

/// Null when there is no rewrite of this name.
const RewriteRow* find_rewrite(const std::string& name);

/// "float", "quantizer", "algorithm", "insertion", "form", "lowering", "finish", "strip".
const char* phase_name(RewritePhase phase);

/// @throws Error kInvalidArgument for names that no rewrite has, and rewrites that a run cannot leave out
void check_skipped(const std::vector<std::string>& names);

}  // namespace tsquant
