#pragma once

#include "io/pickle_tree.h"

namespace tsquant {

/// Whether a `.debug_pkl` record has the form that LibTorch 1.13 relies on: byte offsets with ranges of source text,
/// the text in place or as numbers of a table of strings. LibTorch opens these records only when it needs a place in
/// the source, for a message or for saving, and looks neither at lengths nor at numbers.
bool debug_records_fit(const PickleTree& tree);

}  // namespace tsquant
