#pragma once

#include "tsquant/model.h"

namespace tsquant {

/// Frees the graphs of a model that will not be run, printed or saved any more. LibTorch keeps the methods of a clone
/// for as long as any model that it was cloned from or with lives, so that a search through many copies would keep all
/// of them. Not to be called while another thread clones a relative of this model.
void free_graphs(Model& model);

}  // namespace tsquant
