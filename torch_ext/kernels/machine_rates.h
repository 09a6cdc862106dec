#pragma once

#include <cstdint>

namespace tsquant::kernels {

/// Multiply-adds per second that one core reaches with its operands in registers, measured now (milliseconds): of
/// floats, or exact ones of bytes with the widest instructions that has_isa() allows. 0 where no kernel uses vectors.
double multiply_rate(bool codes);

/// Bytes per second that one core reads from a buffer of this size again and again, measured now: the speed of the
/// cache that holds it, or of memory.
double read_rate(int64_t bytes);

}  // namespace tsquant::kernels
