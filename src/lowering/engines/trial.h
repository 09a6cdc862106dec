#pragma once

#include "lowering/engines/lowering_context.h"

namespace tsquant {

/// Runs the lowered graph once on the probe sample and compares every operator that computes on codes with the
/// reference form: codes may differ by one where rounding ties, floats in their last bits. Each operator reads what
/// the reference form has there, so that a fault is seen at the operator that makes it.
/// @return the values whose operators must stay as Q/DQ, with the reason; empty when all is well
KeptValues try_out(const Model& lowered, const LoweringContext& context, const Sample& probe);

}  // namespace tsquant
