#pragma once

#include <cstdint>

namespace tsquant {

/// Scale and zero point of an activation's codes; their type is the engine's.
struct CodeParams {
  double scale = 1;
  int64_t zero_point = 0;
  bool operator==(const CodeParams& o) const { return scale == o.scale && zero_point == o.zero_point; }
};

}  // namespace tsquant
