#include "kernels/product_operand.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/aligned_buffer.h"
#include "kernels/code_tensor.h"

namespace tsquant::kernels {
namespace {

/// Rows and columns of a matrix: with strides of 0 they can be as many as one likes.
constexpr int64_t kMostRows = int64_t{1} << 28;
/// Columns of a panel that are packed at once when they lie apart in memory.
constexpr int64_t kRunsAtOnce = 4;

thread_local AlignedBuffer run_buffer;

/// The values of one step of the sum, as one object.
template <typename Value>
struct Step {
  Value values[kPanelStep<Value>];
};

/// Codes less their zero point, from and to copies: so the compiler knows that nothing overlaps.
template <typename Value>
void widen(const uint8_t* x, uint8_t flip, int16_t zero_point, Value* out) {
  uint8_t codes[kPanelColumns];
  Value values[kPanelColumns];
  std::memcpy(codes, x, sizeof(codes));
  for (int64_t i = 0; i < kPanelColumns; ++i) {
    values[i] = static_cast<Value>(static_cast<int16_t>(static_cast<int16_t>(codes[i] ^ flip) - zero_point));
  }
  std::memcpy(out, values, sizeof(values));
}

/// Rows of a panel, `distance` apart, as one of its steps.
template <typename Value>
void interleave(const Value* rows, int64_t distance, Value* out) {
  constexpr int64_t kStep = kPanelStep<Value>;
  Value lines[kStep][kPanelColumns], values[kPanelColumns * kStep];
  for (int64_t k = 0; k < kStep; ++k) std::memcpy(lines[k], rows + k * distance, sizeof(lines[k]));
  for (int64_t column = 0; column < kPanelColumns; ++column) {
    for (int64_t k = 0; k < kStep; ++k) values[column * kStep + k] = lines[k][column];
  }
  std::memcpy(out, values, sizeof(values));
}

}  // namespace

ProductOperand::ProductOperand(const at::Tensor& x, std::string what) : x_(x), what_(std::move(what)) {
  if (x.is_quantized()) {
    check_codes_of_either_type(x, what_.c_str());
    flip_ = is_signed(x.scalar_type()) ? 0x80 : 0;
    zero_point_ = static_cast<int32_t>(x.q_zero_point()) - lowest_code(x.scalar_type());
  } else {
    TORCH_CHECK(x.scalar_type() == at::kFloat && x.device().is_cpu() && x.layout() == at::kStrided, "tsquant: the ",
                what_, " must hold codes or floats on the CPU, it is ", x.toString());
  }
  TORCH_CHECK(x.dim() >= 2, "tsquant: the ", what_, " must have two dimensions or more, it has the shape ", x.sizes());
  TORCH_CHECK(rows() <= kMostRows && columns() <= kMostRows, "tsquant: the ", what_, " has the shape ", x.sizes(),
              "; matrices have at most ", kMostRows, " rows and columns");
}

void ProductOperand::expand(at::IntArrayRef batch) {
  auto sizes = batch.vec();
  sizes.insert(sizes.end(), {rows(), columns()});
  if (x_.sizes() != at::IntArrayRef(sizes)) x_ = x_.expand(sizes);
}

int64_t matrix_offset(int64_t index, at::IntArrayRef batch, at::IntArrayRef sizes, at::IntArrayRef strides) {
  int64_t offset = 0;
  for (size_t d = batch.size(); d-- > 0; index /= batch[d]) offset += index % batch[d] % sizes[d] * strides[d];
  return offset;
}

int64_t ProductOperand::offset_of(int64_t matrix) const {
  return matrix_offset(matrix, batch(), x_.sizes(), x_.strides());
}

template <typename Value>
void ProductOperand::read(int64_t offset, int64_t stride, int64_t n, Value* out) const {
  if (n == 0) return;  // no memory
  if (!is_codes()) {
    const float* x = x_.data_ptr<float>() + offset;
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<Value>(x[i * stride]);
    return;
  }
  const uint8_t *x = codes_of(x_) + offset, flip = flip_;
  if (!table_.empty()) {
    const int16_t* table = table_.data();
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<Value>(table[x[i * stride] ^ flip]);
    return;
  }
  const auto zero_point = static_cast<int16_t>(zero_point_);
  int64_t i = 0;
  if (stride == 1) {
    for (; i + kPanelColumns <= n; i += kPanelColumns) widen(x + i, flip, zero_point, out + i);
  }
  for (; i < n; ++i) out[i] = static_cast<Value>((x[i * stride] ^ flip) - zero_point);
}

template <typename Value>
void ProductOperand::pack_left(int64_t matrix, int64_t first, int64_t count, int64_t padded, Value* out) const {
  const int64_t start = offset_of(matrix), n = columns();
  for (int64_t row = first; row < first + count; ++row, out += padded) {
    read(start + row * x_.stride(-2), x_.stride(-1), n, out);
    std::fill(out + n, out + padded, Value(0));
  }
}

// What the sum runs over lies together: a column is read at once.
template <typename Value>
void ProductOperand::pack_columns(int64_t start, int64_t width, Value* out) const {
  const int64_t steps = panel_steps<Value>(rows()), padded = steps * kPanelStep<Value>;
  auto* buffer = run_buffer.as<Value>();
  auto* panel = reinterpret_cast<Step<Value>*>(out);
  const auto* runs = reinterpret_cast<const Step<Value>*>(buffer);
  for (int64_t column = 0; column < kPanelColumns; column += kRunsAtOnce, panel += kRunsAtOnce) {
    std::fill(buffer, buffer + padded * kRunsAtOnce, Value(0));
    for (int64_t k = 0; k < kRunsAtOnce && column + k < width; ++k) {
      read(start + (column + k) * x_.stride(-1), 1, rows(), buffer + k * padded);
    }
    for (int64_t i = 0; i < steps; ++i) {
      for (int64_t k = 0; k < kRunsAtOnce; ++k) panel[i * kPanelColumns + k] = runs[k * steps + i];
    }
  }
}

// A row is read at once, with zeros behind it, for all panels.
template <typename Value>
void ProductOperand::pack_rows(int64_t start, Value* out) const {
  constexpr int64_t kStep = kPanelStep<Value>;
  const int64_t wide = panel_count(columns()) * kPanelColumns;
  const int64_t panel = panel_steps<Value>(rows()) * kStep * kPanelColumns;
  run_buffer.resize(static_cast<size_t>(kStep * wide) * sizeof(Value));
  auto* buffer = run_buffer.as<Value>();
  std::fill(buffer, buffer + kStep * wide, Value(0));
  for (int64_t row = 0; row < rows(); row += kStep, out += kStep * kPanelColumns) {
    for (int64_t k = 0; k < kStep; ++k) {
      Value* line = buffer + k * wide;
      if (row + k < rows()) {
        read(start + (row + k) * x_.stride(-2), x_.stride(-1), columns(), line);
      } else {
        std::fill(line, line + columns(), Value(0));
      }
    }
    for (int64_t at = 0; at < wide; at += kPanelColumns) {
      interleave(buffer + at, wide, out + at / kPanelColumns * panel);
    }
  }
}

template <typename Value>
void ProductOperand::pack_right(int64_t matrix, Value* out) const {
  const int64_t start = offset_of(matrix), padded = panel_steps<Value>(rows()) * kPanelStep<Value>;
  if (x_.stride(-2) != 1) return pack_rows(start, out);
  run_buffer.resize(static_cast<size_t>(padded * kRunsAtOnce) * sizeof(Value));
  for (int64_t first = 0; first < columns(); first += kPanelColumns, out += padded * kPanelColumns) {
    pack_columns(start + first * x_.stride(-1), std::min(kPanelColumns, columns() - first), out);
  }
}

template void ProductOperand::pack_left(int64_t, int64_t, int64_t, int64_t, int16_t*) const;
template void ProductOperand::pack_left(int64_t, int64_t, int64_t, int64_t, float*) const;
template void ProductOperand::pack_right(int64_t, int16_t*) const;
template void ProductOperand::pack_right(int64_t, float*) const;

int64_t panel_values(int64_t rows, int64_t columns) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 64;
  const int64_t padded = rows + 1, across = panel_count(columns) * kPanelColumns;
  TORCH_CHECK(across == 0 || padded < kMost / across, "tsquant: an operand of a product with ", rows, " rows and ",
              columns, " columns is larger than memory");
  return padded * across;
}

std::vector<int64_t> common_batch(const ProductOperand& a, const ProductOperand& b) {
  return at::infer_size(a.batch(), b.batch());
}

std::vector<int64_t> product_strides(const at::Tensor& like, at::IntArrayRef sizes) {
  auto order = memory_order(like);
  const auto last = static_cast<int64_t>(sizes.size()) - 1;
  order.erase(std::remove(order.begin(), order.end(), last), order.end());
  order.push_back(last);
  return dense_strides(sizes, order);
}

}  // namespace tsquant::kernels
