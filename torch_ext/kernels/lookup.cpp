#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "kernels/byte_loops.h"
#include "kernels/code_tensor.h"
#include "kernels/elementwise.h"

namespace tsquant::kernels {

at::Tensor lookup(const at::Tensor& x, const at::Tensor& table, double scale, int64_t zero_point) {
  check_codes_of_either_type(x, "input of lookup");
  check_target(scale, zero_point, x.scalar_type());
  TORCH_CHECK(
      table.scalar_type() == at::kByte && table.numel() == 256 && table.is_contiguous() && table.device().is_cpu(),
      "tsquant::lookup: the table must hold 256 contiguous bytes");
  // The loop is indexed by the byte of a code, which for qint8 is its distance from the lowest code with the top bit
  // flipped.
  const uint8_t flip = is_signed(x.scalar_type()) ? 0x80 : 0;
  uint8_t by_byte[256];
  for (int i = 0; i < 256; ++i) by_byte[i ^ flip] = table.data_ptr<uint8_t>()[i] ^ flip;
  const at::Tensor from = dense_bytes(bytes_of(x));
  at::Tensor result = empty_codes(x.sizes(), from.strides(), x.scalar_type(), scale, zero_point);
  at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
    lookup_bytes(codes_of(from) + begin, 0, 1, end - begin, by_byte, codes_of(result) + begin, 0);
  });
  return result;
}

}  // namespace tsquant::kernels
