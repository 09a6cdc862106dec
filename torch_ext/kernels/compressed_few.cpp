// Products of compressed weights with few inputs: generation of tokens.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "kernels/compressed_dot.h"
#include "kernels/compressed_products.h"

namespace tsquant::kernels {
namespace {

/// About 20 microseconds of products.
constexpr int64_t kProductsPerTask = 1 << 18;

/// Rows of weights that go into one call of dot_rows.
constexpr int64_t kStripRows = 16;

/// Numbers of the groups of rows as dot_rows takes them.
class GroupValues {
 public:
  GroupValues(const CompressedMatrix& m, int64_t blocks)
      : groups_(m.groups()),
        times_(m.groups() == 1 ? 4 : m.group_size() / kCodeBlock),
        stride_(m.groups() == 1 ? 4 : blocks) {
    const int64_t floats = kStripRows * stride_ + kFour;
    of_groups_.resize(static_cast<size_t>(floats) * sizeof(float));
    floats_.resize(static_cast<size_t>(floats) * sizeof(float));
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

}  // namespace

void products_of_few(const LinearCall& c) {
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

}  // namespace tsquant::kernels
