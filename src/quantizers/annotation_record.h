#pragma once

#include <nlohmann/json.hpp>

#include "tsquant/annotation.h"

namespace tsquant {

/// Points, unified groups and refusals, complete: what a prepared model keeps until it is converted.
nlohmann::json annotation_record(const Annotations& annotations);

/// @throws Error kModelLoad when the text is not what annotation_record wrote
Annotations read_annotation_record(const nlohmann::json& record);

}  // namespace tsquant
