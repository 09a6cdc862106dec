#pragma once

#include <string>
#include <unordered_map>

#include "io/output_file.h"
#include "tsquant/model.h"

namespace tsquant {

/// What Model::save writes, for callers that look at the file before it replaces another. @throws Error as Model::save
void write_model(const Model& model, const std::unordered_map<std::string, std::string>& extra_files, OutputFile& file);

}  // namespace tsquant
