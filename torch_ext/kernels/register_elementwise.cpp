#include <torch/library.h>

#include "kernels/elementwise.h"
#include "kernels/pixel_conv.h"
#include "kernels/pooling.h"

// The operators of the lowered form that have no packed weights. Schemas are the contract with model files: change them
// only by adding overloads.
namespace tsquant::kernels {

TORCH_LIBRARY_FRAGMENT(tsquant, m) {
  m.def("quantize(Tensor x, float scale, int zero_point, ScalarType dtype) -> Tensor", quantize);
  m.def("dequantize(Tensor x) -> Tensor", dequantize);
  m.def("add(Tensor a, Tensor b, bool relu, float scale, int zero_point) -> Tensor", add);
  m.def("mul(Tensor a, Tensor b, bool relu, float scale, int zero_point) -> Tensor", mul);
  m.def("add.clamped(Tensor a, Tensor b, int low, int high, float scale, int zero_point) -> Tensor", clamped_add);
  m.def("mul.clamped(Tensor a, Tensor b, int low, int high, float scale, int zero_point) -> Tensor", clamped_mul);
  m.def("lookup(Tensor x, Tensor table, float scale, int zero_point) -> Tensor", lookup);
  m.def("cat(Tensor[] tensors, int dim, float scale, int zero_point) -> Tensor", cat);
  m.def("mean(Tensor x, int[] dim, bool keepdim, float scale, int zero_point) -> Tensor", mean);
  m.def("max_pool(Tensor x, int[] kernel_size, int[] stride, int[] padding, int[] dilation, bool ceil_mode) -> Tensor",
        max_pool);
  m.def(
      "avg_pool(Tensor x, int[] kernel_size, int[] stride, int[] padding, bool ceil_mode, bool count_include_pad, "
      "int? divisor_override, float scale, int zero_point) -> Tensor",
      avg_pool);
  m.def("adaptive_avg_pool(Tensor x, int[] output_size, float scale, int zero_point) -> Tensor", adaptive_avg_pool);
  m.def("pixel_conv(Tensor x, Tensor weight, Tensor? bias) -> Tensor", pixel_conv);
  m.def("mean_float(Tensor x, int[] dim, bool keepdim) -> Tensor", mean_float);
  m.def("adaptive_avg_pool_float(Tensor x, int[] output_size) -> Tensor", adaptive_avg_pool_float);
  m.def("upsample_nearest(Tensor x, int[] output_size) -> Tensor", upsample_nearest);
}

}  // namespace tsquant::kernels
