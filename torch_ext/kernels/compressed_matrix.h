#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/compressed_format.h"

namespace tsquant::kernels {

using OptionalTensor = c10::optional<at::Tensor>;

/// What an operator is given for a compressed weight; README.md describes the tensors.
struct CompressedArguments {
  const char* op;  ///< named by messages
  const at::Tensor& weight;
  const at::Tensor& scale;
  const OptionalTensor& zero_point;
  const OptionalTensor& tensor_scale;
  const OptionalTensor& codebook;
  c10::string_view format;
  int64_t group_size;
};

/// The tensor is defined, dense and on the CPU.
void check_plain(const char* op, const at::Tensor& x, const char* name);

/// Rows of packed codes that were checked to be what they say.
class CompressedMatrix {
 public:
  /// @param size codes of a row
  /// @throws c10::Error that names the argument and what is expected
  CompressedMatrix(const CompressedArguments& a, int64_t size);

  int64_t rows() const { return rows_; }
  int64_t size() const { return size_; }
  int64_t groups() const { return groups_; }
  int64_t group_size() const { return group_size_; }
  int bits() const { return format_.bits; }
  LevelKind kind() const { return kind_; }
  /// Levels by code: 256 floats, null for integers.
  const float* table() const {
    return codebook_.empty() ? (format_.table ? format_.table() : nullptr) : codebook_.data();
  }

  const uint8_t* codes(int64_t row) const { return codes_ + row * row_bytes_; }
  /// One per group of each row, as they are multiplied with levels.
  void read_scales(int64_t row, int64_t rows, float* scales) const;
  /// One per group of each row; only where kind() is kUnsigned.
  void read_zeros(int64_t row, int64_t rows, float* zeros) const;
  void read_zeros(int64_t row, uint8_t* zeros) const;
  /// What unpack_codes subtracts.
  int offset() const { return kind_ == LevelKind::kSigned && format_.bits < 8 ? 1 << (format_.bits - 1) : 0; }

 private:
  void take_weight(const CompressedArguments& a);
  void take_scale(const CompressedArguments& a);
  void take_zero_point(const CompressedArguments& a);
  void take_codebook(const CompressedArguments& a);

  const CompressedFormat& format_;
  LevelKind kind_;
  at::Tensor weight_, scale_, zero_point_;  // contiguous; the pointers lead into them
  const uint8_t* codes_ = nullptr;
  const uint8_t* zeros_ = nullptr;
  std::vector<float> codebook_;
  std::array<float, 256> level_of_byte_{};  // of scales that are bytes
  float tensor_scale_ = 1;
  int64_t rows_ = 0, size_, groups_ = 1, group_size_, row_bytes_ = 0, zero_bytes_ = 0;
};

/// Reads values of a matrix, a row after the other; one object per thread.
class RowReader {
 public:
  explicit RowReader(const CompressedMatrix& matrix);

  /// Scales and zero points of the row are read; read() gives its values.
  void start(int64_t row);
  /// Values of elements [begin, begin + count). @param begin a multiple of 8
  void read(int64_t begin, int64_t count, float* values);

 private:
  const CompressedMatrix& matrix_;
  int64_t row_ = 0;
  std::vector<float> scales_;
  std::vector<uint8_t> zeros_, codes_;
};

}  // namespace tsquant::kernels
