#pragma once

#include "calibration/calibrator.h"
#include "tsquant/report.h"

namespace tsquant {

/// Warns about ranges that say little about the tensor: too few samples, too few different values, ranges widened to
/// the smallest scale, and symmetric ranges that leave out the negative side of a channel. One line per kind.
void warn_about_ranges(const Annotations& annotations, const QParamTable& qparams, const StatTable& stats,
                       Report& report);

}  // namespace tsquant
