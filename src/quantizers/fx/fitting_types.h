#pragma once

#include <string>

#include "tsquant/fx/backend_config.h"
#include "tsquant/fx/qconfig.h"

namespace tsquant::fx {

/// The types that a backend computes a pattern in when it has this qconfig.
struct FittingTypes {
  const DTypeConfig* config = nullptr;  ///< null: none fits
  std::string reason;                   ///< then, for people
};

FittingTypes fitting_types(const BackendPatternConfig& pattern, const QConfig& qconfig);

/// The fixed scale and zero point of a pattern's result; null when it has none.
const DTypeWithConstraints* fixed_output(const BackendPatternConfig& pattern);
/// Whether an observer has them.
bool is_fixed_to(const ObserverConfig& observer, const DTypeWithConstraints& type);

/// Whether a weight of these types is quantized.
bool quantizes_weight(const DTypeConfig& types);

/// "quint8", ... for messages.
std::string type_name(c10::ScalarType dtype);

}  // namespace tsquant::fx
