#pragma once

#include "quantizers/fx/json_object.h"
#include "tsquant/fx/qconfig.h"

namespace tsquant::fx {

Json qconfig_json(const QConfig& qconfig);
/// @throws Error kInvalidArgument
QConfig read_qconfig(const Json& json, const std::string& place);

}  // namespace tsquant::fx
