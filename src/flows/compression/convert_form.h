#pragma once

#include <map>
#include <string>

#include "tsquant/model.h"
#include "tsquant/output_form.h"

namespace tsquant {

/// convert_form on the model itself. @return by the weight's name the operator that reads it, or why it stays with
/// plain operators; nothing for the reference form
std::map<std::string, std::string> convert_in_place(Model& model, OutputForm form);

}  // namespace tsquant
