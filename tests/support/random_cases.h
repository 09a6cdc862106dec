// How many random cases a test tries.
#pragma once

#include "support/build_under_test.h"

namespace tsquant::testing {

/// A quarter of them under sanitizers, which look for what any case does wrong, not for the rare number.
inline int random_cases(int all) { return is_sanitized() ? all / 4 : all; }

}  // namespace tsquant::testing
