#include "kernels/product_result.h"

#include <ATen/ATen.h>

#include "kernels/code_tensor.h"
#include "kernels/product_operand.h"
#include "ops/quantize_kernels.h"

namespace tsquant::kernels {

ProductResult::ProductResult(const at::Tensor& like, at::IntArrayRef sizes, at::ScalarType type,
                             c10::optional<ResultCodes> codes)
    : codes_(codes) {
  const bool same = like.sizes().slice(0, sizes.size() - 1) == sizes.slice(0, sizes.size() - 1);
  const auto strides = same ? product_strides(like, sizes) : plain_strides(sizes);
  if (!codes) {
    tensor_ = at::empty_strided(sizes, strides, at::kFloat);
    return;
  }
  check_target(codes->scale, codes->zero_point, type);
  tensor_ = empty_codes(sizes, strides, type, codes->scale, codes->zero_point);
  inverse_ = tsquant::inverse_scale(codes->scale);
  range_.zero_point = static_cast<int32_t>(codes->zero_point);
  range_.low = static_cast<float>(lowest_code(type) - range_.zero_point);
  range_.high = static_cast<float>(highest_code(type) - range_.zero_point);
}

void ProductResult::clear() {
  if (!codes_) {
    tensor_.zero_();
  } else {
    bytes_of(tensor_).fill_(static_cast<uint8_t>(codes_->zero_point));
  }
}

template <typename Sum>
void ProductResult::write(int64_t matrix, int64_t first, const SumRows<Sum>& x) const {
  const auto lead = static_cast<size_t>(tensor_.dim()) - 2;
  const at::IntArrayRef batch = tensor_.sizes().slice(0, lead);
  const int64_t row = tensor_.stride(-2), at = matrix_offset(matrix, batch, batch, tensor_.strides()) + first * row;
  if (!codes_) return scale_rows(x, tensor_.data_ptr<float>() + at, row);
  quantize_rows(x, range_, is_signed(tensor_.scalar_type()), codes_of(tensor_) + at, row);
}

template void ProductResult::write(int64_t, int64_t, const SumRows<int32_t>&) const;
template void ProductResult::write(int64_t, int64_t, const SumRows<float>&) const;

}  // namespace tsquant::kernels
