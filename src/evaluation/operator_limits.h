#pragma once

#include <map>

#include "evaluation/operator_times.h"

namespace tsquant {

/// The least time that this machine could take for an operator, from rates that are measured when they are first asked
/// for: all its multiply-adds in registers, or all its bytes read from where so many of them fit, whichever is longer
/// (the roofline of Williams, Waterman and Patterson, 2009). Winograd convolutions save products and may stay below it.
class OperatorLimits {
 public:
  /// @param threads cores that work at once, each of them at the rates of one
  explicit OperatorLimits(int threads) : threads_(threads) {}

  /// Milliseconds per run of the model; negative for operators that move no values, whose bytes are not all read
  /// (tables of embeddings), or whose work is not known (recurrent layers).
  double limit_ms(const OperatorTime& time);

 private:
  double multiply_rate(bool codes);
  double read_rate(double bytes);

  int threads_;
  std::map<bool, double> multiply_rates_;
  std::map<int, double> read_rates_;  ///< by the binary logarithm of the bytes
};

}  // namespace tsquant
