#pragma once

#include "io/output_file.h"
#include "tsquant/model.h"

namespace tsquant {

/// What will be loaded from the file computes what the model in memory does, bit for bit.
/// @param probe none: the file must load
/// @throws Error kInternal
void require_same_results(const Model& model, const c10::optional<Sample>& probe, const OutputFile& file);

}  // namespace tsquant
