#pragma once

#include <map>
#include <string>
#include <vector>

#include "calibration/calibrator.h"

namespace tsquant {

/// What calibration could not give parameters to, and why.
struct UnmeasuredPoints {
  Annotations present;                    ///< the annotations without those points
  std::map<std::string, Refusal> losses;  ///< by operator: why it is not quantized after all
  std::vector<std::string> warnings;      ///< one per reason, with the first places
};

/// Points without parameters: their tensor holds integers, no sample reached them, or their weight is no stored
/// parameter. An operator that asked for such a point is not quantized. Neither is any other operator of a branch that
/// no sample took, and a branch without quantizers counts as not taken when the first sample did not take it.
/// @param view built with the shapes of the first sample
UnmeasuredPoints find_unmeasured_points(const GraphView& view, const Annotations& annotations,
                                        const QParamTable& qparams);

}  // namespace tsquant
