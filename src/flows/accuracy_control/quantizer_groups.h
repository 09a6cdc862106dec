#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calibration/calibrator.h"
#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"

namespace tsquant {

/// Quantizers that can only be removed together, and the operators that compute on floats without them.
struct QuantizerGroup {
  std::vector<int64_t> points;         ///< ids, ascending
  std::vector<std::string> operators;  ///< stable names, in execution order
};

/// Cuts the inserted quantizers (those with parameters) into groups: an operator is quantized by all its inputs or by
/// none, and a quantizer serves all operators that it reaches through operators which only move values.
/// The groups come in reverse execution order, as NNCF ranks them (common/quantization/quantizer_removal.py).
std::vector<QuantizerGroup> find_quantizer_groups(const GraphView& view, const Annotations& annotations,
                                                  const QParamTable& qparams);

}  // namespace tsquant
