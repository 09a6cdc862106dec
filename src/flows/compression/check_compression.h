#pragma once

#include <string>
#include <vector>

#include "tsquant/annotation.h"
#include "tsquant/compress_weights.h"

namespace tsquant {

/// What nncf.compress_weights checks before it looks at the model, in its order (nncf quantize_model.py, algorithm.py).
/// @return warnings
/// @throws Error kInvalidArgument as compress_weights says
std::vector<std::string> check_compress_weights(const CompressWeightsOptions& options);

/// What the quantizer is told.
WeightsOnlyOptions weights_only_options(const CompressWeightsOptions& options);

/// The checks of options that do not depend on the quantizer.
void check_compress_pt2e(const CompressPt2eOptions& options);

/// What the annotations and the options must have in common.
/// @throws Error kInvalidArgument: activation points, options about weights in a primary precision when no point has a
///         choice of precisions
void check_annotations(const Annotations& annotations, const CompressPt2eOptions& options);

}  // namespace tsquant
