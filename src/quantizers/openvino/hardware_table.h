#pragma once

#include <vector>

#include "graph/op_table.h"
#include "quantizers/openvino/qconfig.h"
#include "tsquant/openvino_quantizer.h"

namespace tsquant::openvino {

/// What the target device can do with one metatype.
struct OpPlan {
  QuantizationTrait trait = QuantizationTrait::kNonQuantizable;
  /// The device lists the operator; an empty list then leaves the choice open (NNCF's wildcard).
  bool listed = false;
  QConfigList activations;  ///< candidates in order of preference
  QConfigList weights;
  bool unified_scales = false;  ///< all inputs must share one scale
};

/// The plan of every metatype, by its index in op_table(). Source: nncf/common/hardware/setups/*.py.
///
/// @param eight_bit activations and weights both use 8 bits: GPU and NPU then follow the table of the CPU, as NNCF does
std::vector<OpPlan> make_hardware_table(TargetDevice device, bool eight_bit);

}  // namespace tsquant::openvino
