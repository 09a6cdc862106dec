#include "weight_only/double_quant.h"

#include <ATen/ATen.h>

#include "run/single_thread_guard.h"
#include "weight_only/check_arguments.h"

namespace tsquant {

QuantizedScale quantize_scale(const at::Tensor& scale, const DoubleQuant& options) {
  check_bits(options.bits, "double_quant.bits");
  auto row = scale.clone(at::MemoryFormat::Contiguous).view({1, -1});
  const int64_t group = columns_per_group(row, options.group_size, "double_quant.group_size");
  QuantizedScale result;
  if (options.scheme != "sym") {
    const SingleThreadGuard guard;  // several threads round the sum differently
    result.mean = row.mean();
    row.sub_(*result.mean);
  }
  if (options.return_int) {
    const auto quantized = quant_tensor(row.clone(), options.bits, group, "sym", 1, options.dtype, /*return_int=*/true);
    result.codes = quantized.tensor.view_as(scale);
    result.hyper_scale = quantized.scale;
  }
  quant_tensor(row, options.bits, group, "sym", 1, options.dtype);
  if (result.mean) row.add_(*result.mean);
  result.values = row.view_as(scale);
  return result;
}

}  // namespace tsquant
