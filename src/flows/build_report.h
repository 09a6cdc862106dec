#pragma once

#include "calibration/calibrator.h"
#include "tsquant/graph_view.h"
#include "tsquant/report.h"

namespace tsquant {

/// One record per operator (quantized or why not) and one per quantizer.
void describe_nodes(Report& report, const GraphView& view, const Annotations& annotations);
void describe_quantizers(Report& report, const Annotations& annotations, const QParamTable& qparams,
                         const StatTable& stats);

/// The reasons of a report, grouped: "3 x conv2d: ignored; 2 x add: ...".
std::string grouped_reasons(const Report& report);

}  // namespace tsquant
