#pragma once

#include "calibration/calibrator.h"
#include "flows/phase_clock.h"
#include "passes/rewrite_runner.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant {

/// The float-to-float algorithms that need data and run before the quantizer annotates: SmoothQuant and
/// ChannelAlignment, where the options ask for them. What they did goes into the report.
/// @param calibration how their statistics passes run
/// @throws Error as calibrate
void run_pre_annotation_algorithms(RewriteRunner& runner, Report& report, PhaseClock& clock, const Dataset& dataset,
                                   const QuantizePt2eOptions& options, const CalibrationOptions& calibration);

}  // namespace tsquant
