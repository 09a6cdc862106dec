#include "kernels/compressed_matrix.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "kernels/compressed_loops.h"
#include "numerics/minifloat.h"

namespace tsquant::kernels {
namespace {

bool is_given(const OptionalTensor& tensor) { return tensor.has_value() && tensor->defined(); }

float e8m0_value(int byte) {
  return byte == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0F, byte - 127);
}

}  // namespace

void check_plain(const char* op, const at::Tensor& x, const char* name) {
  TORCH_CHECK(x.defined() && x.device().is_cpu() && x.layout() == at::kStrided && !x.is_quantized(), op, ": ", name,
              " must be a dense tensor on the CPU");
}

CompressedMatrix::CompressedMatrix(const CompressedArguments& a, int64_t size)
    : format_(compressed_format(a.format)), kind_(format_.levels), size_(size), group_size_(a.group_size) {
  check_plain(a.op, a.weight, "weight");
  check_plain(a.op, a.scale, "scale");
  TORCH_CHECK(a.weight.dim() == 2, a.op, ": weight must have two dimensions, rows of packed codes, but has the shape ",
              a.weight.sizes());
  if (group_size_ == -1) group_size_ = size;
  TORCH_CHECK(size >= 1, a.op, ": rows must have at least one element, but have ", size);
  TORCH_CHECK(group_size_ >= 1 && size % group_size_ == 0, a.op, ": group_size must be -1, for whole rows, or divide ",
              size, ", but is ", group_size_);
  groups_ = size / group_size_;
  rows_ = a.weight.size(0);
  take_weight(a);
  take_scale(a);
  take_zero_point(a);
  take_codebook(a);
}

void CompressedMatrix::take_weight(const CompressedArguments& a) {
  const auto type = a.weight.scalar_type();
  const bool one_byte = format_.integer() && format_.bits == 8;
  TORCH_CHECK(type == at::kByte || (one_byte && type == at::kChar), a.op, ": weight must be uint8",
              one_byte ? " or int8" : "", " for ", format_.name, ", but is ", type);
  // Row sizes come from tensors that exist, so this does not overflow.
  row_bytes_ = size_ <= 8 * a.weight.size(1) ? packed_row_size(size_, format_.bits) : -1;
  TORCH_CHECK(a.weight.size(1) == row_bytes_, a.op, ": weight must have rows of ", size_, " packed ", format_.bits,
              "-bit codes, but has the shape ", a.weight.sizes());
  weight_ = a.weight.contiguous();
  codes_ = static_cast<const uint8_t*>(weight_.data_ptr());
}

void CompressedMatrix::take_scale(const CompressedArguments& a) {
  const auto type = a.scale.scalar_type();
  const bool bytes = format_.scale_codes != ScaleCodes::kNone;
  TORCH_CHECK(type == at::kHalf || type == at::kFloat || (bytes && type == at::kByte), a.op,
              ": scale must be float16 or float32", bytes ? ", or uint8," : "", " for ", format_.name, ", but is ",
              type);
  TORCH_CHECK(a.scale.dim() >= 1 && a.scale.size(0) == rows_ && a.scale.numel() == rows_ * groups_, a.op,
              ": scale must have the shape [", rows_, ", ", groups_, ", 1], but has ", a.scale.sizes());
  scale_ = a.scale.contiguous();
  for (int byte = 0; bytes && byte < 256; ++byte) {
    level_of_byte_[static_cast<size_t>(byte)] =
        format_.scale_codes == ScaleCodes::kE8M0 ? e8m0_value(byte) : decode(static_cast<uint8_t>(byte), kE4M3);
  }
  if (!is_given(a.tensor_scale)) return;
  check_plain(a.op, *a.tensor_scale, "tensor_scale");
  TORCH_CHECK(a.tensor_scale->numel() == 1 && a.tensor_scale->scalar_type() == at::kFloat, a.op,
              ": tensor_scale must be one float32, but is ", a.tensor_scale->toString(), " ", a.tensor_scale->sizes());
  tensor_scale_ = a.tensor_scale->item<float>();
}

void CompressedMatrix::take_zero_point(const CompressedArguments& a) {
  const bool given = is_given(a.zero_point);
  TORCH_CHECK(!given || format_.integer(), a.op, ": ", format_.name, " has no zero_point; give None");
  const bool one_byte = format_.integer() && format_.bits == 8;
  if (!given) {
    TORCH_CHECK(!one_byte || weight_.scalar_type() == at::kChar, a.op,
                ": uint8 codes need a zero_point; codes without one are int8");
    return;
  }
  check_plain(a.op, *a.zero_point, "zero_point");
  TORCH_CHECK(weight_.scalar_type() == at::kByte, a.op, ": int8 codes have no zero_point; give uint8 codes with one");
  zero_bytes_ = packed_row_size(groups_, format_.bits);
  TORCH_CHECK(a.zero_point->scalar_type() == at::kByte && a.zero_point->dim() >= 1 && a.zero_point->size(0) == rows_ &&
                  a.zero_point->numel() == rows_ * zero_bytes_,
              a.op, ": zero_point must be uint8 [", rows_, ", ", zero_bytes_, "], ", groups_, " packed codes per row, ",
              "but is ", a.zero_point->toString(), " ", a.zero_point->sizes());
  zero_point_ = a.zero_point->contiguous();
  zeros_ = zero_point_.data_ptr<uint8_t>();
  kind_ = LevelKind::kUnsigned;
}

void CompressedMatrix::take_codebook(const CompressedArguments& a) {
  TORCH_CHECK(is_given(a.codebook) == format_.has_codebook(), a.op, ": ", format_.name,
              format_.has_codebook() ? " needs a codebook" : " has no codebook; give None");
  if (!format_.has_codebook()) return;
  check_plain(a.op, *a.codebook, "codebook");
  const int64_t most = int64_t{1} << format_.bits, count = a.codebook->numel();
  TORCH_CHECK(a.codebook->scalar_type() == at::kFloat && a.codebook->dim() == 1 && count >= 2 && count <= most, a.op,
              ": codebook must be float32 with 2 to ", most, " levels, but is ", a.codebook->toString(), " ",
              a.codebook->sizes());
  const at::Tensor levels = a.codebook->contiguous();
  codebook_.assign(256, std::numeric_limits<float>::quiet_NaN());
  std::copy_n(levels.data_ptr<float>(), count, codebook_.begin());
  for (int64_t i = 0; i < count; ++i) {
    TORCH_CHECK(std::isfinite(codebook_[static_cast<size_t>(i)]), a.op, ": level ", i, " of the codebook is ",
                codebook_[static_cast<size_t>(i)], "; levels must be finite");
  }
}

void CompressedMatrix::read_scales(int64_t row, int64_t rows, float* scales) const {
  const int64_t first = row * groups_, count = rows * groups_;
  if (scale_.scalar_type() == at::kHalf) {
    halves_to_floats(reinterpret_cast<const uint16_t*>(scale_.data_ptr<at::Half>()) + first, count, scales);
  } else if (scale_.scalar_type() == at::kFloat) {
    std::copy_n(scale_.data_ptr<float>() + first, count, scales);
  } else {
    const uint8_t* bytes = scale_.data_ptr<uint8_t>() + first;
    for (int64_t i = 0; i < count; ++i) scales[i] = level_of_byte_[bytes[i]];
  }
  if (tensor_scale_ == 1) return;
  for (int64_t i = 0; i < count; ++i) scales[i] *= tensor_scale_;
}

void CompressedMatrix::read_zeros(int64_t row, uint8_t* zeros) const {
  unpack_codes(zeros_ + row * zero_bytes_, groups_, format_.bits, 0, groups_, 0, zeros);
}

void CompressedMatrix::read_zeros(int64_t row, int64_t rows, float* zeros) const {
  std::vector<uint8_t> codes(static_cast<size_t>(rows * groups_));
  // Rows without a gap between them are one long row, if all bits of a code are in one plane.
  const bool one_plane = format_.bits == 8 || format_.bits == 4 || format_.bits == 2;
  const int64_t at_once = one_plane && 8 * zero_bytes_ == groups_ * format_.bits ? rows : 1;
  for (int64_t i = 0; i < rows; i += at_once) {
    const int64_t count = at_once * groups_;
    unpack_codes(zeros_ + (row + i) * zero_bytes_, count, format_.bits, 0, count, 0, codes.data() + i * groups_);
  }
  const float one = 1;
  const uint8_t zero = 0;
  const RowLevels levels = {LevelKind::kUnsigned, nullptr, &one, &zero, rows * groups_};
  dequantize_codes(levels, codes.data(), 0, rows * groups_, zeros);
}

RowReader::RowReader(const CompressedMatrix& matrix) : matrix_(matrix) {
  scales_.resize(static_cast<size_t>(matrix.groups()));
  zeros_.resize(static_cast<size_t>(matrix.groups()));
}

void RowReader::start(int64_t row) {
  row_ = row;
  matrix_.read_scales(row, 1, scales_.data());
  if (matrix_.kind() == LevelKind::kUnsigned) matrix_.read_zeros(row, zeros_.data());
}

void RowReader::read(int64_t begin, int64_t count, float* values) {
  if (static_cast<int64_t>(codes_.size()) < count) codes_.resize(static_cast<size_t>(count));
  unpack_codes(matrix_.codes(row_), matrix_.size(), matrix_.bits(), begin, count, matrix_.offset(), codes_.data());
  const RowLevels levels = {matrix_.kind(), matrix_.table(), scales_.data(), zeros_.data(), matrix_.group_size()};
  dequantize_codes(levels, codes_.data(), begin, count, values);
}

}  // namespace tsquant::kernels
