// tsquant::linear_compressed: few rows of inputs read the packed weight once and decode it in registers; many rows
// decode it into a buffer in the cache, once for 128 of them.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

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

/// The products of rows of weights with a few inputs. One object per thread.
class FewInputs {
 public:
  /// How rows go into dot_row.
  enum class Form {
    kPacked,  ///< as they are
    kBytes,   ///< codes of 5 to 7 bits, one in a byte
    kValues,  ///< groups that are no whole blocks: float values
  };

  static Form form_of(const CompressedMatrix& m) {
    if (m.groups() > 1 && m.group_size() % kCodeBlock != 0) return Form::kValues;
    return m.bits() > 4 && m.bits() < 8 ? Form::kBytes : Form::kPacked;
  }
  static DotFormat format_of(const CompressedMatrix& m) {
    const Form form = form_of(m);
    return form == Form::kValues ? DotFormat() : DotFormat(form == Form::kBytes ? 8 : m.bits(), m.kind(), m.table());
  }

  FewInputs(const CompressedMatrix& matrix, const DotFormat& format)
      : matrix_(matrix), format_(format), form_(form_of(matrix)), reader_(matrix) {
    const auto padded = static_cast<size_t>(format.padded(matrix.size())), blocks = padded / kCodeBlock;
    codes_.resize(padded * (form_ == Form::kValues ? sizeof(float) : 1));
    scales_.resize(blocks * sizeof(float));
    zeros_.resize(blocks * sizeof(float));
    std::fill_n(scales_.as<float>(), blocks, form_ == Form::kValues ? 1.0F : 0.0F);
    std::fill_n(zeros_.as<float>(), blocks, 0.0F);
    std::fill_n(codes_.as<uint8_t>(), codes_.capacity(), uint8_t{0});
    of_groups_.resize(static_cast<size_t>(matrix.groups()));
    zeros_of_groups_.resize(static_cast<size_t>(matrix.groups()));
  }

  /// @param x as arrange_inputs makes it
  void run(int64_t row, const float* x, int64_t stride, int64_t inputs, float* sums) {
    DotRow r;
    r.codes = matrix_.codes(row);
    r.n = matrix_.size();
    r.scales = scales_.as<float>();
    r.zeros = zeros_.as<float>();
    if (form_ != Form::kValues) read_parameters(row);
    if (form_ != Form::kPacked) {
      prepare(row);
      r.codes = codes_.as<uint8_t>();
      r.n = format_.padded(matrix_.size());
    }
    dot_row(format_, r, x, stride, inputs, codes_.as<uint8_t>(), sums);
  }

 private:
  void prepare(int64_t row) {
    if (form_ == Form::kValues) {
      reader_.start(row);
      reader_.read(0, matrix_.size(), codes_.as<float>());
    } else {
      unpack_codes(matrix_.codes(row), matrix_.size(), matrix_.bits(), 0, matrix_.size(), matrix_.offset(),
                   codes_.as<uint8_t>());
    }
  }

  void read_parameters(int64_t row) {
    const int64_t groups = matrix_.groups();
    const int64_t blocks =
        groups == 1 ? (matrix_.size() + kCodeBlock - 1) / kCodeBlock : matrix_.group_size() / kCodeBlock;
    if (blocks == 1) {
      matrix_.read_scales(row, scales_.as<float>());
    } else {
      matrix_.read_scales(row, of_groups_.data());
      repeat(of_groups_.data(), blocks, scales_.as<float>());
    }
    if (matrix_.kind() != LevelKind::kUnsigned) return;
    matrix_.read_zeros(row, zeros_of_groups_.data());
    repeat(zeros_of_groups_.data(), blocks, zeros_.as<float>());
  }

  template <typename T>
  void repeat(const T* values, int64_t times, float* to) const {
    for (int64_t group = 0; group < matrix_.groups(); ++group) {
      for (int64_t i = 0; i < times; ++i) *to++ = static_cast<float>(values[group]);
    }
  }

  const CompressedMatrix& matrix_;
  const DotFormat& format_;
  Form form_;
  RowReader reader_;
  AlignedBuffer codes_, scales_, zeros_;
  std::vector<float> of_groups_;
  std::vector<uint8_t> zeros_of_groups_;
};

void run_few(const LinearCall& c) {
  const DotFormat format = FewInputs::format_of(c.matrix);
  const int64_t stride = format.padded(c.matrix.size());
  const AlignedBuffer arranged(static_cast<size_t>(stride * c.inputs) * sizeof(float));
  for (int64_t i = 0; i < c.inputs; ++i) {
    arrange_inputs(format, c.x + i * c.matrix.size(), c.matrix.size(), arranged.as<float>() + i * stride);
  }
  const int64_t grain = std::max<int64_t>(1, kProductsPerTask / (stride * c.inputs));
  at::parallel_for(0, c.matrix.rows(), grain, [&](int64_t begin, int64_t end) {
    FewInputs few(c.matrix, format);
    float sums[kFewInputs];
    for (int64_t row = begin; row < end; ++row) {
      few.run(row, arranged.as<float>(), stride, c.inputs, sums);
      for (int64_t i = 0; i < c.inputs; ++i) {
        c.y[i * c.matrix.rows() + row] = c.bias == nullptr ? sums[i] : sums[i] + c.bias[row];
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
/// Elements of a row that are decoded at once: six rows of them stay in the first-level cache.
constexpr int64_t kChunk = 512;

/// Products of rows [first_row, first_row + rows) with inputs [first_input, first_input + inputs).
void run_task(const LinearCall& c, const PackedInputs& packed, int64_t first_row, int64_t first_input) {
  const int64_t rows = std::min(kTaskRows, c.matrix.rows() - first_row);
  const int64_t inputs = std::min(kTaskInputs, c.inputs - first_input);
  const int64_t width = packed.width(), size = c.matrix.size();
  std::vector<RowReader> readers(static_cast<size_t>(rows), RowReader(c.matrix));
  for (int64_t row = 0; row < rows; ++row) readers[static_cast<size_t>(row)].start(first_row + row);
  alignas(64) float weights[kGemmTileRows * kChunk];
  const int64_t stride = (inputs + width - 1) / width * width;
  const AlignedBuffer buffer(static_cast<size_t>(rows * stride) * sizeof(float));
  auto* sums = buffer.as<float>();
  for (int64_t begin = 0; begin < size; begin += kChunk) {
    const int64_t count = std::min(kChunk, size - begin);
    for (int64_t row = 0; row < rows; row += kGemmTileRows) {
      const int64_t some = std::min(kGemmTileRows, rows - row);
      for (int64_t i = 0; i < some; ++i) {
        readers[static_cast<size_t>(row + i)].read(begin, count, weights + i * kChunk);
      }
      for (int64_t input = 0; input < inputs; input += width) {
        gemm_tile(weights, kChunk, some, count, packed.tile((first_input + input) / width, begin), begin == 0,
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
