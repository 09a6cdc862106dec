#pragma once

#include "quantizers/fx/json_object.h"
#include "tsquant/fx/qconfig_mapping.h"

namespace tsquant::fx {

Json mapping_json(const QConfigMapping& mapping);
/// @throws Error kInvalidArgument
QConfigMapping read_mapping(const Json& json, const std::string& place);

}  // namespace tsquant::fx
