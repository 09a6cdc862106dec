#include "cli/placement.h"

#include "cli/console.h"
#include "cli/flag_names.h"
#include "cli/quantizer_choice.h"
#include "flows/build_report.h"
#include "flows/check_supported.h"
#include "flows/non_float32_tensors.h"
#include "passes/rewrite_runner.h"
#include "quantizers/transform_model.h"
#include "tsquant/load_mapped.h"

namespace tsquant::cli {

namespace {

Placement place_quantizers(const std::string& path, const QuantizerArgs& args, const Sample* sample) {
  Placement result;
  const auto quantizer = make_quantizer(args);
  result.model = std::make_unique<Model>(load_mapped(path));
  require_float(*result.model, path);
  RewriteOptions rewrites;
  rewrites.skip = args.options.skip_passes;
  RewriteRunner runner(*result.model, rewrites);
  runner.run_passes(RewritePhase::kFloat);
  transform_model(runner, *quantizer);
  const ShapeTable shapes = sample ? record_shapes(*result.model, *sample) : ShapeTable{};
  result.view = std::make_unique<GraphView>(*result.model, shapes);
  result.annotations = quantizer->annotate(*result.view);
  quantizer->validate(*result.view, result.annotations);
  const auto other_types = drop_other_float_types(*result.view, result.annotations);
  if (!other_types.empty()) log_line(float_type_warning(other_types));
  describe_nodes(result.report, *result.view, result.annotations);
  return result;
}

}  // namespace

Placement place(const std::string& path, const QuantizerArgs& args, const Sample* sample) {
  try {
    return place_quantizers(path, args, sample);
  } catch (const Error& error) {
    throw with_flag_names(error);
  }
}

}  // namespace tsquant::cli
