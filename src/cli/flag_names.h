#pragma once

#include "tsquant/error.h"

namespace tsquant::cli {

/// The error of the library in the words of the command line: `subset_size` becomes `--subset-size`. For commands whose
/// options come from flags; a configuration file has the library's names.
Error with_flag_names(const Error& error);

}  // namespace tsquant::cli
