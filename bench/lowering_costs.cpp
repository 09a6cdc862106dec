// Prints the row of the cost table (src/lowering/engines/cost_rates.cpp) for this machine, limited to one instruction
// set by TSQUANT_MAX_ISA, ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA:
//   TSQUANT_MAX_ISA=avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 bench_lowering_costs
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cstdlib>

#include "lowering/engines/cost_rates.h"

int main() {
  at::set_num_threads(1);
  const auto r = tsquant::measure_costs();
  const char* target = std::getenv("TSQUANT_MAX_ISA");
  fmt::print("{{\"{}\", {:.3g}, {:.3g}, {:.3g}, {:.3g}, {:.3g}, {:.3g}, {:.3g}}},\n",
             target == nullptr ? "this machine" : target, r.int8_macs, r.float_channel, r.int8_channel, r.float_values,
             r.int8_values, r.quantize, r.dequantize);
}
