#pragma once

#include <string>
#include <vector>

namespace tsquant {

/// What operators take on one kind of processor, in units of 1,000 multiply-adds of LibTorch's float convolution there:
/// only the ratios decide. Values are elements of the result.
struct CostRates {
  const char* target;    ///< instruction set, as TSQUANT_MAX_ISA spells it
  double int8_macs;      ///< 1,000 multiply-adds of a dense integer convolution or linear layer
  double float_channel;  ///< 1,000 multiply-adds of a float depthwise convolution
  double int8_channel;   ///< the same on codes
  double float_values;   ///< 1,000 values of a float addition, pooling or activation
  double int8_values;    ///< the same on codes
  double quantize;       ///< 1,000 values to codes
  double dequantize;     ///< 1,000 codes to values
};

/// What `products` thousand multiply-adds of a convolution or linear layer take, in the unit of the rates.
double layer_cost(const CostRates& rates, double products, bool is_depthwise, bool on_codes);

/// One row per target, written by `bench_lowering_costs`.
const std::vector<CostRates>& cost_table();

/// The row for the best instruction set that this machine has and TSQUANT_MAX_ISA allows; the first row for one
/// without.
const CostRates& rates_here();

/// Seconds that LibTorch's float convolution takes here for 1,000 multiply-adds, the unit of the rates; measured now.
double measure_unit();

/// The rates of this machine, measured now (about a second, one thread).
CostRates measure_costs();

}  // namespace tsquant
