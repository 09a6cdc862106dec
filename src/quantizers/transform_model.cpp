#include "quantizers/transform_model.h"

#include <fmt/format.h>

#include "graph/graph_fingerprint.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

bool can_be_asked_for(const RewriteRow& row) { return row.pass && row.phase == RewritePhase::kQuantizer; }

void check_name(const std::string& name) {
  const RewriteRow* row = find_rewrite(name);
  if (row && can_be_asked_for(*row)) return;
  std::vector<std::string> known;
  for (const auto& other : all_rewrites()) {
    if (can_be_asked_for(other)) known.push_back(other.name);
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("the quantizer asks for \"{}\", which is no rewrite for quantizers", name),
              "rewrites_for_annotation", fmt::format("those are {}", fmt::join(known, ", ")));
}

/// Set while a runner, which has run what the quantizer asked for or was told to skip it, calls the quantizer.
thread_local bool runner_is_in_charge = false;

class InCharge {
 public:
  InCharge() { runner_is_in_charge = true; }
  ~InCharge() { runner_is_in_charge = false; }
};

void run_rewrites_of(RewriteRunner& runner, const Quantizer& quantizer) {
  for (const auto& name : quantizer.rewrites_for_annotation()) {
    check_name(name);
    runner.run_pass(name);
  }
}

}  // namespace

void Quantizer::transform_for_annotation(Model& model) {
  if (runner_is_in_charge) return;
  RewriteRunner runner(model);
  run_rewrites_of(runner, *this);
}

void transform_model(RewriteRunner& runner, Quantizer& quantizer) {
  run_rewrites_of(runner, quantizer);
  runner.run("transform_for_annotation", [&](RewriteContext& ctx) {
    // The quantizer does not say whether it changed something.
    const InCharge guard;
    const size_t before = graph_fingerprint(*ctx.model.graph());
    quantizer.transform_for_annotation(ctx.model);
    return graph_fingerprint(*ctx.model.graph()) != before;
  });
}

}  // namespace tsquant
