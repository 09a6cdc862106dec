#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>

#include <utility>

#include "kernels/byte_loops.h"
#include "kernels/code_tensor.h"
#include "kernels/elementwise.h"
#include "ops/quantize_kernels.h"

namespace tsquant::kernels {
namespace {

/// What the codes of a result lie between.
struct Bounds {
  int64_t low, high;
};

Bounds bounds_for(const at::Tensor& a, bool relu, int64_t zero_point) {
  return {relu ? zero_point : lowest_code(a.scalar_type()), highest_code(a.scalar_type())};
}

BinaryParams params_for(Binary op, const at::Tensor& a, const at::Tensor& b, Bounds bounds, double scale,
                        int64_t zero_point) {
  const auto dtype = a.scalar_type();
  BinaryParams p;
  p.op = op;
  p.is_signed = is_signed(dtype);
  p.scale_a = static_cast<float>(a.q_scale());
  p.scale_b = static_cast<float>(b.q_scale());
  p.inverse_out = inverse_scale(scale);
  p.zero_point_a = static_cast<int32_t>(a.q_zero_point());
  p.zero_point_b = static_cast<int32_t>(b.q_zero_point());
  p.zero_point = static_cast<int32_t>(zero_point);
  p.low = static_cast<int32_t>(bounds.low);
  p.high = static_cast<int32_t>(bounds.high);
  return p;
}

/// The operand seen with the sizes of the result.
at::Tensor expanded(const at::Tensor& bytes, const at::Tensor& result) {
  return bytes.sizes() == result.sizes() ? bytes : bytes.expand(result.sizes());
}

/// The same codes laid out as the result.
at::Tensor materialized(const at::Tensor& bytes, const at::Tensor& result) {
  return at::empty_strided(result.sizes(), result.strides(), at::kByte).copy_(bytes);
}

void compute(const at::Tensor& out, at::Tensor a, at::Tensor b, BinaryParams p) {
  const auto step = [&](const at::Tensor& x, const at::Tensor& y, size_t which) {
    return RowLoop({out, x, y}).inner[which];
  };
  if (const int64_t s = step(a, b, 1); s != 0 && s != 1) a = materialized(a, out);
  if (const int64_t s = step(a, b, 2); s != 0 && s != 1) b = materialized(b, out);
  if (step(a, b, 1) == 0 && step(a, b, 2) == 0) a = materialized(a, out);
  // Sums and products do not depend on the order of the operands, so the one that repeats a code comes second.
  if (step(a, b, 1) == 0) {
    std::swap(a, b);
    std::swap(p.scale_a, p.scale_b);
    std::swap(p.zero_point_a, p.zero_point_b);
  }
  const RowLoop loop({out, a, b});
  loop.run([&](const RowBlock& block, int64_t n) {
    BinaryRows r;
    r.out = codes_of(out) + block.offset[0];
    r.a = codes_of(a) + block.offset[1];
    r.b = codes_of(b) + block.offset[2];
    r.out_row = block.row[0];
    r.a_row = block.row[1];
    r.b_row = block.row[2];
    r.rows = block.rows;
    r.n = n;
    r.b_repeats = loop.inner[2] == 0;
    binary_codes(r, p);
  });
}

at::Tensor binary(Binary op, const at::Tensor& a, const at::Tensor& b, Bounds bounds, double scale,
                  int64_t zero_point) {
  const bool sum = op == Binary::kAdd;
  check_codes_of_either_type(a, sum ? "first operand of add" : "first operand of mul");
  check_codes_of_either_type(b, sum ? "second operand of add" : "second operand of mul");
  TORCH_CHECK(a.scalar_type() == b.scalar_type(), "tsquant: the operands of ", sum ? "add" : "mul",
              " must have the same type, they are ", a.scalar_type(), " and ", b.scalar_type());
  const auto type = a.scalar_type();
  check_target(scale, zero_point, type);
  TORCH_CHECK(lowest_code(type) <= bounds.low && bounds.low <= bounds.high && bounds.high <= highest_code(type),
              "tsquant: the codes of ", sum ? "add" : "mul", " are bounded by ", bounds.low, " and ", bounds.high,
              "; codes of ", type, " lie between ", lowest_code(type), " and ", highest_code(type));
  const auto sizes = at::infer_size(a.sizes(), b.sizes());
  // The layout is that of the first operand that has the shape of the result.
  const at::IntArrayRef shape(sizes);
  const auto strides = a.sizes() == shape   ? strides_like(a, shape)
                       : b.sizes() == shape ? strides_like(b, shape)
                                            : plain_strides(shape);
  at::Tensor result = empty_codes(sizes, strides, a.scalar_type(), scale, zero_point);
  if (result.numel() == 0) return result;
  const at::Tensor out = bytes_of(result);
  compute(out, expanded(bytes_of(a), out), expanded(bytes_of(b), out), params_for(op, a, b, bounds, scale, zero_point));
  return result;
}

}  // namespace

at::Tensor add(const at::Tensor& a, const at::Tensor& b, bool relu, double scale, int64_t zero_point) {
  return binary(Binary::kAdd, a, b, bounds_for(a, relu, zero_point), scale, zero_point);
}

at::Tensor mul(const at::Tensor& a, const at::Tensor& b, bool relu, double scale, int64_t zero_point) {
  return binary(Binary::kMul, a, b, bounds_for(a, relu, zero_point), scale, zero_point);
}

at::Tensor clamped_add(const at::Tensor& a, const at::Tensor& b, int64_t low, int64_t high, double scale,
                       int64_t zero_point) {
  return binary(Binary::kAdd, a, b, {low, high}, scale, zero_point);
}

at::Tensor clamped_mul(const at::Tensor& a, const at::Tensor& b, int64_t low, int64_t high, double scale,
                       int64_t zero_point) {
  return binary(Binary::kMul, a, b, {low, high}, scale, zero_point);
}

}  // namespace tsquant::kernels
