// How many random cases a test tries.
#pragma once

namespace tsquant::testing {

/// A quarter of them under sanitizers, which look for what any case does wrong, not for the rare number.
inline int random_cases(int all) {
#if defined(TSQUANT_SANITIZE)
  return all / 4;
#else
  return all;
#endif
}

}  // namespace tsquant::testing
