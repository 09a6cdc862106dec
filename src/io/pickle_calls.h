#pragma once

#include <string_view>

#include "io/pickle_check.h"
#include "io/pickle_tree.h"

namespace tsquant {

/// What a GLOBAL opcode stands for: a function, class, storage type or quantization scheme.
/// @param lines module and name, each with a line break
/// @throws PickleDamage when LibTorch does not know it
PickleNode pickle_global(std::string_view lines, const PickleRules& rules);

/// The storage that BINPERSID describes. @throws PickleDamage
PickleNode pickle_storage(const PickleTree& tree, const PickleNode& arguments, const PickleRules& rules);

/// The result of a function for REDUCE or BUILD: the number of a node, new or old. @throws PickleDamage
uint32_t call_pickle_function(PickleTree& tree, uint32_t function, uint32_t arguments, const PickleRules& rules);

}  // namespace tsquant
