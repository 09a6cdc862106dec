#pragma once

#include <string>

#include "tsquant/annotation.h"

namespace tsquant {

/// "8 bits signed symmetric, per channel (axis 0), half range" or "f8e4m3, per channel (axis 0)": what a spec asks for,
/// in words, without what is left at its default.
std::string spec_text(const QuantizationSpec& spec);

}  // namespace tsquant
