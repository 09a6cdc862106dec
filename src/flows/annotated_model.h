#pragma once

#include "calibration/calibrator.h"
#include "flows/prepared_model.h"
#include "passes/rewrite_runner.h"

namespace tsquant {

// The stages that all flows share, wherever their statistics come from.

RewriteOptions rewrite_options(const QuantizePt2eOptions& options, const Sample& first);

/// Float-to-float rewrites: ours and the quantizer's.
void normalise(RewriteRunner& runner, Quantizer& quantizer);

/// Fills view, annotations and the records of all operators.
void annotate_model(PreparedModel& prepared, const Quantizer& quantizer, const QuantizePt2eOptions& options);

/// Statistics become parameters, of the result's form, and records.
void use_statistics(PreparedModel& prepared, const StatTable& stats, OutputForm form);

}  // namespace tsquant
