#pragma once

namespace tsquant::testing {

/// How much longer limits of time are where the library is not optimized, with sanitizers or without.
#if defined(TSQUANT_UNOPTIMIZED)
constexpr double kSlower = 12;
#else
constexpr double kSlower = 1;
#endif

}  // namespace tsquant::testing
