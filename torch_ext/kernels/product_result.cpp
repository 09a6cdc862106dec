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
  inverse_ = inverse_scale(codes->scale);
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
void ProductResult::write(int64_t matrix, int64_t row, const Sum* sums, double factor) const {
  const auto lead = static_cast<size_t>(tensor_.dim()) - 2;
  const at::IntArrayRef batch = tensor_.sizes().slice(0, lead);
  const int64_t at = matrix_offset(matrix, batch, batch, tensor_.strides()) + row * tensor_.stride(-2);
  const auto times = static_cast<float>(factor * inverse_);
  if (!codes_) return scale_row(sums, tensor_.size(-1), times, tensor_.data_ptr<float>() + at);
  quantize_row(sums, tensor_.size(-1), times, range_, is_signed(tensor_.scalar_type()), codes_of(tensor_) + at);
}

template void ProductResult::write(int64_t, int64_t, const int32_t*, double) const;
template void ProductResult::write(int64_t, int64_t, const float*, double) const;

}  // namespace tsquant::kernels
