#pragma once

#include <ATen/core/Tensor.h>

namespace tsquant {

/// Memory for a result of which every byte will be written. Where it is large, the system is asked for pages of 2 MB:
/// a thousand times 4 kB would take as long as computing what they hold.
at::Tensor large_output(at::IntArrayRef shape, c10::ScalarType type);

}  // namespace tsquant
