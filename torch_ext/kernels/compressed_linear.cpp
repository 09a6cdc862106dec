// tsquant::linear_compressed: few rows of inputs read the packed weight once and decode it in registers; many rows
// decode it into a buffer in the cache, once for 128 of them.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "kernels/compressed_dot.h"
#include "kernels/compressed_gemm.h"
#include "kernels/compressed_ops.h"

namespace tsquant::kernels {
namespace {

/// Rows of inputs up to which codes are decoded in registers.
constexpr int64_t kFewInputs = 8;
/// About 20 microseconds of products.
constexpr int64_t kProductsPerTask = 1 << 18;

/// inputs x size, float32 and dense, and what becomes of them.
struct LinearCall {
  const CompressedMatrix& matrix;
  const float* x;
  int64_t inputs;
  const float* bias;  // or null
  float* y;           // [inputs, rows]
};

/// Rows of weights that go into one call of dot_rows.
constexpr int64_t kStripRows = 16;

/// Numbers of the groups of rows as dot_rows takes them.
class GroupValues {
 public:
  GroupValues(const CompressedMatrix& m, int64_t blocks)
      : groups_(m.groups()),
        times_(m.groups() == 1 ? 4 : m.group_size() / kCodeBlock),
        stride_(m.groups() == 1 ? 4 : blocks) {
    const auto floats = static_cast<size_t>(kStripRows * stride_) + kFour;
    of_groups_.resize(floats * sizeof(float));
    floats_.resize(floats * sizeof(float));
    std::fill_n(floats_.as<float>(), floats, 0.0F);
  }

  /// @param read writes the numbers of the groups of all rows
  template <typename Read>
  BlockValues take(int64_t rows, const Read& read) {
    if (groups_ == stride_) {
      read(floats_.as<float>());
    } else {
      read(of_groups_.as<float>());
      for (int64_t row = 0; row < rows; ++row) repeat(row);
    }
    return {floats_.as<float>(), stride_, groups_ == 1};
  }

 private:
  static constexpr int64_t kFour = 4;

  /// Stores four at once; what is too much is overwritten by the next group, and behind the last one set to zero.
  void repeat(int64_t row) {
    const float* from = of_groups_.as<float>() + row * groups_;
    float* to = floats_.as<float>() + row * stride_;
    for (int64_t group = 0; group < groups_; ++group, to += times_) {
      const float value = from[group];
      for (int64_t i = 0; i < times_; i += kFour) {
        const float four[kFour] = {value, value, value, value};
        std::memcpy(to + i, four, sizeof(four));
      }
    }
    std::memset(to, 0, kFour * sizeof(float));
  }

  int64_t groups_, times_, stride_;
  AlignedBuffer of_groups_, floats_;
};

/// The products of strips of rows of weights with a few inputs. One object per thread.
class FewInputs {
 public:
  /// How rows go into dot_rows.
  enum class Form {
    kPacked,  ///< as they are
    kPadded,  ///< copied, to end with whole steps
    kBytes,   ///< codes of 5 to 7 bits, one in a byte
    kValues,  ///< groups that are no whole blocks: float values
  };

  static Form form_of(const CompressedMatrix& m) {
    if (m.groups() > 1 && m.group_size() % kCodeBlock != 0) return Form::kValues;
    if (m.bits() > 4 && m.bits() < 8) return Form::kBytes;
    return m.size() % DotFormat(m.bits(), m.kind(), m.table()).step() == 0 ? Form::kPacked : Form::kPadded;
  }
  static DotFormat format_of(const CompressedMatrix& m) {
    const Form form = form_of(m);
    return form == Form::kValues ? DotFormat() : DotFormat(form == Form::kBytes ? 8 : m.bits(), m.kind(), m.table());
  }

  FewInputs(const CompressedMatrix& matrix, const DotFormat& format)
      : matrix_(matrix),
        format_(format),
        form_(form_of(matrix)),
        reader_(matrix),
        padded_(format.padded(matrix.size())),
        scales_(matrix, padded_ / kCodeBlock),
        zeros_(matrix, padded_ / kCodeBlock) {
    std::fill_n(ones_, 4, 1.0F);
    std::fill_n(zero_, 4, format.zero());
    if (form_ == Form::kPacked) return;
    codes_.resize(static_cast<size_t>(kStripRows * format.row_bytes(padded_)));
    std::fill_n(codes_.as<uint8_t>(), codes_.capacity(), uint8_t{0});
  }

  /// @param x as arrange_inputs makes it
  /// @param sums [rows, inputs]
  void run(int64_t row, int64_t rows, const float* x, int64_t stride, int64_t inputs, float* sums) {
    DotRows r;
    r.codes = matrix_.codes(row);
    r.count = rows;
    r.n = padded_;
    r.stride = format_.row_bytes(padded_);
    r.scales = {ones_, 0, true};
    r.zeros = {zero_, 0, true};
    if (form_ != Form::kValues) read_parameters(row, rows, r);
    if (form_ != Form::kPacked) {
      for (int64_t i = 0; i < rows; ++i) prepare(row + i, codes_.as<uint8_t>() + i * r.stride);
      r.codes = codes_.as<uint8_t>();
    }
    dot_rows(format_, r, x, stride, inputs, sums);
  }

 private:
  void prepare(int64_t row, uint8_t* to) {
    const int64_t size = matrix_.size();
    if (form_ == Form::kValues) {
      reader_.start(row);
      reader_.read(0, size, reinterpret_cast<float*>(to));
    } else if (form_ == Form::kBytes) {
      unpack_codes(matrix_.codes(row), size, matrix_.bits(), 0, size, matrix_.offset(), to);
    } else {
      pad_planes(matrix_.codes(row), to);
    }
  }

  /// Every plane of a row has its own end. What follows stays zero.
  void pad_planes(const uint8_t* from, uint8_t* to) const {
    for (const int width : {8, 4, 2, 1}) {
      if ((format_.bits() & width) == 0) continue;
      const int64_t bytes = (matrix_.size() * width + 7) / 8;
      std::copy(from, from + bytes, to);
      from += bytes;
      to += padded_ / 8 * width;
    }
  }

  void read_parameters(int64_t row, int64_t rows, DotRows& r) {
    r.scales = scales_.take(rows, [&](float* to) { matrix_.read_scales(row, rows, to); });
    if (matrix_.kind() != LevelKind::kUnsigned) return;
    r.zeros = zeros_.take(rows, [&](float* to) { matrix_.read_zeros(row, rows, to); });
  }

  const CompressedMatrix& matrix_;
  const DotFormat& format_;
  Form form_;
  RowReader reader_;
  int64_t padded_;
  GroupValues scales_, zeros_;
  AlignedBuffer codes_;
  float ones_[4], zero_[4];
};

void run_few(const LinearCall& c) {
  const DotFormat format = FewInputs::format_of(c.matrix);
  const int64_t size = c.matrix.size(), stride = format.arranged(size);
  const AlignedBuffer arranged(static_cast<size_t>(stride * c.inputs) * sizeof(float));
  for (int64_t i = 0; i < c.inputs; ++i) {
    arrange_inputs(format, c.x + i * size, size, arranged.as<float>() + i * stride);
  }
  const int64_t strips = (c.matrix.rows() + kStripRows - 1) / kStripRows;
  const int64_t grain = std::max<int64_t>(1, kProductsPerTask / (stride * c.inputs * kStripRows));
  at::parallel_for(0, strips, grain, [&](int64_t begin, int64_t end) {
    FewInputs few(c.matrix, format);
    float sums[kStripRows * kFewInputs];
    for (int64_t first = begin * kStripRows; first < std::min(end * kStripRows, c.matrix.rows()); first += kStripRows) {
      const int64_t rows = std::min(kStripRows, c.matrix.rows() - first);
      few.run(first, rows, arranged.as<float>(), stride, c.inputs, sums);
      for (int64_t i = 0; i < c.inputs; ++i) {
        float* y = c.y + i * c.matrix.rows() + first;
        const float* bias = c.bias == nullptr ? nullptr : c.bias + first;
        for (int64_t row = 0; row < rows; ++row) {
          y[row] = sums[row * c.inputs + i] + (bias == nullptr ? 0.0F : bias[row]);
        }
      }
    }
  });
}

/// Inputs in tiles, one after the other.
class PackedInputs {
 public:
  PackedInputs(const LinearCall& c) : size_(c.matrix.size()), width_(gemm_tile_inputs()) {
    const int64_t tiles = (c.inputs + width_ - 1) / width_;
    floats_.resize(static_cast<size_t>(tiles * width_ * size_) * sizeof(float));
    at::parallel_for(0, tiles, 1, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile) {
        pack_gemm_inputs(c.x + tile * width_ * size_, size_, std::min(width_, c.inputs - tile * width_), size_,
                         floats_.as<float>() + tile * width_ * size_);
      }
    });
  }

  int64_t width() const { return width_; }
  const float* tile(int64_t tile, int64_t element) const {
    return floats_.as<float>() + (tile * size_ + element) * width_;
  }

 private:
  int64_t size_, width_;
  AlignedBuffer floats_;
};

// What one task computes: rows of weights and inputs whose parts stay in the second-level cache.
constexpr int64_t kTaskRows = 8 * kGemmTileRows, kTaskInputs = 128;
/// Elements of a row that are decoded at once: so many of a tile of inputs stay in the first-level cache while all rows
/// of a task pass.
constexpr int64_t kChunk = 256;

/// Asks memory for the codes that follow those of [begin, begin + count): of this row, or of the next task at its end.
/// A task reads short pieces of many rows, which no processor foresees.
void prefetch_next(const CompressedMatrix& m, int64_t row, int64_t begin, int64_t count) {
  const bool ends = begin + count == m.size();
  if (ends) row += kTaskRows;
  if (row >= m.rows()) return;
  const uint8_t* next = m.codes(row) + (ends ? 0 : (begin + count) * m.bits() / 8);
  for (int64_t i = 0; i < kChunk * m.bits() / 8; i += 64) __builtin_prefetch(next + i);
}

/// Products of rows [first_row, first_row + rows) with inputs [first_input, first_input + inputs).
void run_task(const LinearCall& c, const PackedInputs& packed, int64_t first_row, int64_t first_input) {
  const int64_t rows = std::min(kTaskRows, c.matrix.rows() - first_row);
  const int64_t inputs = std::min(kTaskInputs, c.inputs - first_input);
  const int64_t width = packed.width(), size = c.matrix.size();
  std::vector<RowReader> readers(static_cast<size_t>(rows), RowReader(c.matrix));
  for (int64_t row = 0; row < rows; ++row) readers[static_cast<size_t>(row)].start(first_row + row);
  const int64_t stride = (inputs + width - 1) / width * width;
  const AlignedBuffer buffer(static_cast<size_t>(rows * (kChunk + stride)) * sizeof(float));
  auto* weights = buffer.as<float>();
  float* sums = weights + rows * kChunk;
  for (int64_t begin = 0; begin < size; begin += kChunk) {
    const int64_t count = std::min(kChunk, size - begin);
    for (int64_t row = 0; row < rows; ++row) {
      readers[static_cast<size_t>(row)].read(begin, count, weights + row * kChunk);
      prefetch_next(c.matrix, first_row + row, begin, count);
    }
    for (int64_t input = 0; input < inputs; input += width) {
      const float* tile = packed.tile((first_input + input) / width, begin);
      for (int64_t row = 0; row < rows; row += kGemmTileRows) {
        gemm_tile(weights + row * kChunk, kChunk, std::min(kGemmTileRows, rows - row), count, tile, begin == 0,
                  sums + row * stride + input, stride);
      }
    }
  }
  for (int64_t input = 0; input < inputs; ++input) {
    float* y = c.y + (first_input + input) * c.matrix.rows() + first_row;
    for (int64_t row = 0; row < rows; ++row) {
      y[row] = sums[row * stride + input] + (c.bias == nullptr ? 0.0F : c.bias[first_row + row]);
    }
  }
}

void run_many(const LinearCall& c) {
  const PackedInputs packed(c);
  const int64_t row_tasks = (c.matrix.rows() + kTaskRows - 1) / kTaskRows;
  const int64_t input_tasks = (c.inputs + kTaskInputs - 1) / kTaskInputs;
  at::parallel_for(0, row_tasks * input_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      run_task(c, packed, task / input_tasks * kTaskRows, task % input_tasks * kTaskInputs);
    }
  });
}

}  // namespace

at::Tensor linear_compressed(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                             const OptionalTensor& zero_point, const OptionalTensor& bias, c10::string_view format,
                             int64_t in_features, int64_t group_size, const OptionalTensor& codebook,
                             const OptionalTensor& tensor_scale) {
  const char* op = "tsquant::linear_compressed";
  check_plain(op, x, "x");
  const auto type = x.scalar_type();
  TORCH_CHECK(type == at::kFloat || type == at::kHalf || type == at::kBFloat16, op,
              ": x must be float32, float16 or bfloat16, but is ", type);
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) == in_features, op, ": x must have ", in_features,
              " elements in its last dimension, but has the shape ", x.sizes());
  const CompressedMatrix matrix({op, weight, scale, zero_point, tensor_scale, codebook, format, group_size},
                                in_features);
  at::Tensor addend;
  if (bias.has_value() && bias->defined()) {
    check_plain(op, *bias, "bias");
    TORCH_CHECK(bias->dim() == 1 && bias->size(0) == matrix.rows() && bias->is_floating_point(), op, ": bias must be ",
                matrix.rows(), " floats, but is ", bias->toString(), " ", bias->sizes());
    addend = bias->to(at::kFloat).contiguous();
  }
  auto shape = x.sizes().vec();
  shape.back() = matrix.rows();
  at::Tensor result = at::empty(shape, at::TensorOptions(at::kFloat));
  if (result.numel() == 0) return result.to(type);
  const at::Tensor inputs = x.to(at::kFloat).contiguous();
  const LinearCall call = {matrix, inputs.data_ptr<float>(), inputs.numel() / in_features,
                           addend.defined() ? addend.data_ptr<float>() : nullptr, result.data_ptr<float>()};
  call.inputs <= kFewInputs ? run_few(call) : run_many(call);
  return result.to(type);
}

}  // namespace tsquant::kernels
