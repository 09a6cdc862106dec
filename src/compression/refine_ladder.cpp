#include "compression/refine_ladder.h"

#include <ATen/ATen.h>

#include <functional>

#include "compression/coordinate_descent.h"
#include "compression/group_descent.h"
#include "compression/ordered_gptq.h"
#include "compression/scale_refit.h"
#include "numerics/formats.h"

namespace tsquant {

namespace {

/// Formats of so few bits gain from group descent.
constexpr int kFewBits = 3;

/// One panel's part of the result.
struct PanelClimb {
  double error = 0;
  std::vector<double> objectives;
};

using Step = std::function<StepErrors(CodePanel&)>;

double squares(const CodePanel& panel) {
  return (panel.weight - panel.values()).to(at::kDouble).square().sum().item<double>();
}

}  // namespace

bool uses_groups(Format format, const RefineOptions& options) {
  return options.groups.value_or(format_info(format).bits <= kFewBits);
}

Climbed climb(const at::Tensor& weight, const CompressedWeight& start, const DampedLayer& layer,
              const RefineOptions& options) {
  CodePanels panels(weight, start, "refine");
  const DescentOptions descent_options{options.sweeps, options.block_size};
  GroupDescentOptions group_options;
  group_options.zero_points = options.zero_points;
  group_options.scale_type = options.scale_type;
  const GroupDescent groups(start.qparams, layer.hessian, group_options);
  const ScaleRefit refit(start.qparams, layer.hessian, {options.scale_type});
  std::vector<Step> steps;
  for (int round = 0; round < options.rounds; ++round) {
    steps.push_back([&](CodePanel& p) { return descend_panel(p, layer.hessian, panels.codec(), descent_options); });
    if (uses_groups(start.qparams.format, options)) steps.push_back([&](CodePanel& p) { return groups.run(p); });
    if (options.refit) steps.push_back([&](CodePanel& p) { return refit.run(p); });
  }
  std::vector<PanelClimb> parts(static_cast<size_t>(panels.size()));
  panels.for_each([&](CodePanel& panel) {
    gptq_panel(panel, layer.factor, panels.codec(), options.block_size);
    if (steps.empty()) return;
    PanelClimb& part = parts[panel.index];
    panel.measure(layer.hessian);
    part.objectives.push_back(panel.errors().sum().item<double>());
    for (const Step& step : steps) part.objectives.push_back(step(panel).after);
    part.error = part.objectives.back() - layer.ridge * squares(panel);
  });
  Climbed result;
  result.weight = panels.result();
  if (!steps.empty()) result.objectives.resize(steps.size() + 1);
  for (const PanelClimb& part : parts) {
    result.error += part.error;
    for (size_t i = 0; i < part.objectives.size(); ++i) result.objectives[i] += part.objectives[i];
  }
  return result;
}

}  // namespace tsquant
