#pragma once

#include "calibration/calibrator.h"
#include "tsquant/graph_view.h"
#include "tsquant/report.h"

namespace tsquant {

/// One record per operator: quantized, or why not.
/// @param losses by operator: why it is not quantized although the annotations ask for it (find_unmeasured_points)
void describe_nodes(Report& report, const GraphView& view, const Annotations& annotations,
                    const std::map<std::string, Refusal>& losses = {});

/// One record per quantizer that has parameters.
void describe_quantizers(Report& report, const Annotations& annotations, const QParamTable& qparams,
                         const StatTable& stats);

/// The reasons of a report, grouped: "3 x conv2d: ignored; 2 x add: ...".
std::string grouped_reasons(const Report& report);

}  // namespace tsquant
