#include "kernels/code_tensor.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/quantize_kernels.h"

namespace tsquant::kernels {

void check_codes_of_either_type(const at::Tensor& x, const char* what) {
  TORCH_CHECK(x.is_quantized() && (x.scalar_type() == at::kQUInt8 || x.scalar_type() == at::kQInt8) &&
                  x.qscheme() == at::kPerTensorAffine && x.device().is_cpu(),
              "tsquant: the ", what, " must be a quint8 or qint8 tensor of the CPU with one scale, it is ",
              x.toString());
}

void check_target(double scale, int64_t zero_point, at::ScalarType dtype) {
  const float narrow = static_cast<float>(scale);
  TORCH_CHECK(narrow > 0 && std::isfinite(narrow) && std::isfinite(inverse_scale(scale)),
              "tsquant: the scale must be positive and, like its inverse, finite in float32; it is ", scale);
  TORCH_CHECK(zero_point >= lowest_code(dtype) && zero_point <= highest_code(dtype), "tsquant: the zero point of ",
              dtype, " must lie in [", lowest_code(dtype), ", ", highest_code(dtype), "], it is ", zero_point);
}

at::Tensor bytes_of(const at::Tensor& x) { return at::from_blob(x.data_ptr(), x.sizes(), x.strides(), at::kByte); }

at::Tensor empty_codes(at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype, double scale,
                       int64_t zero_point) {
  at::Tensor result = at::_empty_affine_quantized(sizes, at::TensorOptions(dtype), scale, zero_point);
  result.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides);
  return result;
}

std::vector<int64_t> memory_order(const at::Tensor& x) {
  std::vector<int64_t> order(static_cast<size_t>(x.dim()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return x.stride(a) > x.stride(b); });
  return order;
}

std::vector<int64_t> dense_strides(at::IntArrayRef sizes, const std::vector<int64_t>& order) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (auto d = order.rbegin(); d != order.rend(); ++d) {
    strides[static_cast<size_t>(*d)] = stride;
    stride *= std::max<int64_t>(sizes[static_cast<size_t>(*d)], 1);
  }
  return strides;
}

std::vector<int64_t> plain_strides(at::IntArrayRef sizes) {
  std::vector<int64_t> order(sizes.size());
  std::iota(order.begin(), order.end(), 0);
  return dense_strides(sizes, order);
}

std::vector<int64_t> strides_like(const at::Tensor& x, at::IntArrayRef sizes) {
  if (x.is_non_overlapping_and_dense()) {
    if (x.sizes() == sizes) return x.strides().vec();
    // Strides of dimensions of size 1 say nothing about the order, so the named layouts are asked first.
    const auto named = x.suggest_memory_format();
    if (!x.is_contiguous(named)) return dense_strides(sizes, memory_order(x));
  }
  std::vector<int64_t> order(sizes.size());
  std::iota(order.begin(), order.end(), 0);
  // Channels, the second dimension, come last in memory.
  if (x.suggest_memory_format() != at::MemoryFormat::Contiguous) {
    std::rotate(order.begin() + 1, order.begin() + 2, order.end());
  }
  return dense_strides(sizes, order);
}

at::Tensor dense_bytes(const at::Tensor& bytes) {
  if (bytes.is_non_overlapping_and_dense()) return bytes;
  return at::empty_strided(bytes.sizes(), strides_like(bytes, bytes.sizes()), at::kByte).copy_(bytes);
}

RowLoop::RowLoop(const std::vector<at::Tensor>& operands) : inner(operands.size(), 1), strides_(operands.size()) {
  const at::Tensor& result = operands.front();
  for (const int64_t d : memory_order(result)) {
    const int64_t size = result.size(d);
    if (size == 1) continue;
    bool joins = !sizes_.empty();
    for (size_t k = 0; k < operands.size() && joins; ++k) joins = strides_[k].back() == operands[k].stride(d) * size;
    if (!joins) sizes_.push_back(1);
    sizes_.back() *= size;
    for (size_t k = 0; k < operands.size(); ++k) {
      if (!joins) strides_[k].push_back(0);
      strides_[k].back() = operands[k].stride(d);
    }
  }
  if (sizes_.empty()) return;
  n = sizes_.back();
  sizes_.pop_back();
  for (size_t k = 0; k < operands.size(); ++k) {
    inner[k] = strides_[k].back();
    strides_[k].pop_back();
  }
}

void RowLoop::run(const std::function<void(const RowBlock&, int64_t)>& body) const {
  const size_t operands = inner.size();
  RowBlock whole;
  whole.offset.assign(operands, 0);
  whole.row.assign(operands, 0);
  if (n == 0) return;
  if (sizes_.empty()) {
    at::parallel_for(0, n, kGrain, [&](int64_t begin, int64_t end) {
      RowBlock block = whole;
      for (size_t k = 0; k < operands; ++k) block.offset[k] = begin * inner[k];
      block.rows = 1;
      body(block, end - begin);
    });
    return;
  }
  const int64_t rows = sizes_.back();
  const int64_t all = std::accumulate(sizes_.begin(), sizes_.end(), int64_t{1}, std::multiplies<int64_t>());
  at::parallel_for(0, all, std::max<int64_t>(1, kGrain / n), [&](int64_t begin, int64_t end) {
    RowBlock block = whole;
    while (begin < end) {
      block.rows = std::min(end - begin, rows - begin % rows);
      for (size_t k = 0; k < operands; ++k) {
        int64_t at = begin;
        block.offset[k] = 0;
        for (size_t d = sizes_.size(); d-- > 0; at /= sizes_[d]) block.offset[k] += at % sizes_[d] * strides_[k][d];
        block.row[k] = strides_[k].back();
      }
      body(block, n);
      begin += block.rows;
    }
  });
}

}  // namespace tsquant::kernels
