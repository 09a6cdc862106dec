#pragma once

#include <string>
#include <vector>

#include "tsquant/graph_view.h"

namespace tsquant::testing {

/// Random images, zeros for integers: one tensor per "1x3x224x224:float32" in the first line of a view golden.
Sample sample_for(const std::string& header);

/// The view in the format of tests/data/views (scripts/make_view_goldens.py).
/// @param fold_batch_norm show convolutions as they are after conv+batch-norm folding
std::vector<std::string> view_lines(const GraphView& view, bool fold_batch_norm);

std::vector<std::string> read_lines(const std::string& path);

}  // namespace tsquant::testing
