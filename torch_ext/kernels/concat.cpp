#include <ATen/ATen.h>
#include <ATen/WrapDimUtils.h>

#include <array>
#include <cstring>
#include <numeric>

#include "kernels/byte_loops.h"
#include "kernels/code_tensor.h"
#include "kernels/elementwise.h"
#include "ops/quantize_kernels.h"
#include "ops/quantize_scalar.h"

namespace tsquant::kernels {
namespace {

/// For every byte of a code the byte of the code that stands for the same value under the result's parameters.
std::array<uint8_t, 256> requantizing_table(const at::Tensor& x, double scale, int64_t zero_point) {
  const auto dtype = x.scalar_type();
  std::array<uint8_t, 256> table;
  for (int byte = 0; byte < 256; ++byte) {
    const int32_t code = is_signed(dtype) ? static_cast<int8_t>(byte) : byte;
    float value;
    dequantize_scalar(&code, 1, static_cast<float>(x.q_scale()), x.q_zero_point(), &value);
    int32_t result;
    quantize_scalar(&value, 1, inverse_scale(scale), zero_point, lowest_code(dtype), highest_code(dtype), &result);
    table[static_cast<size_t>(byte)] = static_cast<uint8_t>(result);
  }
  return table;
}

/// Writes the codes of `x` into `out`, a part of the result.
void write_part(const at::Tensor& x, const at::Tensor& out, double scale, int64_t zero_point) {
  at::Tensor from = bytes_of(x);
  if (RowLoop({out, from}).inner[1] != 1) {
    from = at::empty_strided(out.sizes(), dense_strides(out.sizes(), memory_order(out)), at::kByte).copy_(from);
  }
  const bool same = x.q_zero_point() == zero_point && static_cast<float>(x.q_scale()) == static_cast<float>(scale);
  const auto table = requantizing_table(x, scale, zero_point);
  RowLoop({out, from}).run([&](const RowBlock& block, int64_t n) {
    const uint8_t* source = codes_of(from) + block.offset[1];
    uint8_t* target = codes_of(out) + block.offset[0];
    if (!same) return lookup_bytes(source, block.row[1], block.rows, n, table.data(), target, block.row[0]);
    for (int64_t row = 0; row < block.rows; ++row) {
      std::memcpy(target + row * block.row[0], source + row * block.row[1], static_cast<size_t>(n));
    }
  });
}

/// aten::cat lets tensors of the shape [0] stand for nothing, whatever the others' rank.
bool stands_for_nothing(const at::Tensor& x) { return x.dim() == 1 && x.numel() == 0; }

void check_shapes(const at::Tensor& first, const at::Tensor& x, int64_t dim) {
  bool fits = x.dim() == first.dim();
  for (int64_t d = 0; d < first.dim() && fits; ++d) fits = d == dim || x.size(d) == first.size(d);
  TORCH_CHECK(fits, "tsquant::cat: the tensors must agree in all dimensions except ", dim, ", they are ", first.sizes(),
              " and ", x.sizes());
}

}  // namespace

at::Tensor cat(at::TensorList tensors, int64_t dim, double scale, int64_t zero_point) {
  TORCH_CHECK(!tensors.empty(), "tsquant::cat: there are no tensors");
  const auto dtype = tensors[0].scalar_type();
  std::vector<at::Tensor> parts;
  for (const at::Tensor& x : tensors) {
    check_codes_of_either_type(x, "input of cat");
    TORCH_CHECK(x.scalar_type() == dtype, "tsquant::cat: all tensors must have the same type, there are ", dtype,
                " and ", x.scalar_type());
    if (!stands_for_nothing(x)) parts.push_back(x);
  }
  check_target(scale, zero_point, dtype);
  if (parts.empty()) return empty_codes({0}, {1}, dtype, scale, zero_point);
  const at::Tensor& first = parts.front();
  TORCH_CHECK(first.dim() > 0, "tsquant::cat: tensors without dimensions cannot be concatenated");
  dim = at::maybe_wrap_dim(dim, first.dim());
  auto sizes = first.sizes().vec();
  sizes[static_cast<size_t>(dim)] = 0;
  for (const at::Tensor& x : parts) {
    check_shapes(first, x, dim);
    sizes[static_cast<size_t>(dim)] += x.size(dim);
  }
  at::Tensor result = empty_codes(sizes, strides_like(first, sizes), dtype, scale, zero_point);
  const at::Tensor out = bytes_of(result);
  int64_t at = 0;
  for (const at::Tensor& x : parts) {
    if (x.numel() > 0) write_part(x, out.narrow(dim, at, x.size(dim)), scale, zero_point);
    at += x.size(dim);
  }
  return result;
}

}  // namespace tsquant::kernels
