#pragma once

#include <set>
#include <string>
#include <string_view>

#include "io/pickle_tree.h"

namespace tsquant {

/// Operators ("ns::name") and classes ("torch.classes.ns.name") that a record of code names and no loaded library
/// defines. Operators of LibTorch itself are left to its compiler.
std::set<std::string> undefined_names(std::string_view code);

/// Whether brackets or blocks are nested deeper than LibTorch's parser, which is recursive, can follow.
bool is_nested_too_deeply(std::string_view code);

/// Whether a class of the code sets a constant without a type, of which LibTorch reads the type all the same.
bool has_untyped_constant(std::string_view code);

/// Whether an enum of this name may have a value. True when the code does not define the enum.
bool enum_may_be(std::string_view code, std::string_view name, const PickleNode& value);

}  // namespace tsquant
