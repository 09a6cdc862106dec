#pragma once

#include <string>
#include <vector>

#include "tsquant/annotation.h"
#include "tsquant/dataset.h"
#include "tsquant/error.h"
#include "tsquant/graph_view.h"

namespace tsquant {

/// Takes out the points whose tensor is known to hold floating-point numbers other than float32: LibTorch's quantize
/// operators take nothing else. The operators that asked for them get a refusal with the code "not_float32", and points
/// that serve no other operator go too.
/// @return the types that were found, for example {"float64"}; empty when every point stays
std::vector<std::string> drop_other_float_types(const GraphView& view, Annotations& annotations);

/// One line for the report's warnings.
std::string float_type_warning(const std::vector<std::string>& types);

/// Nothing is left to quantize because of these types. @throws Error kUnsupportedModel
[[noreturn]] void refuse_float_types(const std::vector<std::string>& types);

/// Replaces the error of a model that does not run by one that names the type of its parameters, where all of them have
/// another type than float32: the sample is not to blame then. Rethrows `error` otherwise.
[[noreturn]] void rethrow_with_float_types(const Model& model, const Error& error);

}  // namespace tsquant
