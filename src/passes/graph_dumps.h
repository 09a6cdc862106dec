#pragma once

#include <string>

#include "passes/rewrite_registry.h"

namespace tsquant {

/// Makes the folder for dumped graphs, removes those of an earlier run, which would be mistaken for this one's, and
/// writes the captured graph: 000_captured.ir. Other files stay. @throws Error kIo
void start_dumps(const std::string& folder, const Model& model);

/// Writes the graph after a rewrite: NNN_<name>.ir, where NNN is the rewrite's place among all rewrites, so that equal
/// names of two runs are the same moment. @throws Error kIo
void dump_after(const RewriteRow& row, const std::string& folder, const Model& model);

}  // namespace tsquant
