#pragma once

#include <string>

#include "tsquant/model.h"

namespace tsquant::testing {

/// A model as text that a test can hold: the tensors of the module, then one line per operator. Parameters and
/// constants stand where they are read, values without a name are numbered:
/// ```
/// weight: qint8 [4, 3, 3, 3]
/// %0 = aten::dequantize(weight)
/// %y = aten::conv2d(%x, %0, None, [1, 1], [0, 0], [1, 1], 1)
/// return %y
/// ```
std::string ir_text(const Model& model);

}  // namespace tsquant::testing
