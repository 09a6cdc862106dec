// Products of compressed weights with many quantized inputs: prompts. A panel of the weight, kPanelRows rows by some
// groups, is unpacked into the cache and meets all inputs there.
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "kernels/compressed_gemm.h"
#include "kernels/dynamic_gemm.h"
#include "kernels/dynamic_inputs.h"
#include "kernels/dynamic_products.h"

namespace tsquant::kernels {
namespace {

/// Elements of a row that are unpacked at once, about: a panel of so many stays in the first-level cache.
constexpr int64_t kPanelElements = 1024;

ProductStep step_for(const CompressedMatrix& m) {
  return m.bits() <= 4 ? ProductStep::kFourBytes : ProductStep::kTwoHalves;
}

/// How a group lies in rows of steps.
struct Steps {
  explicit Steps(const CompressedMatrix& m)
      : step(step_for(m)),
        elements(step_elements(step)),
        of_group((m.group_size() + elements - 1) / elements),
        padded(of_group * elements) {}

  ProductStep step;
  int64_t elements, of_group, padded;
};

/// Inputs as the steps take them.
class StepInputs {
 public:
  StepInputs(const LinearCall& c, const Steps& steps)
      : steps_(steps), inputs_(c.x, c.inputs, c.matrix.groups(), c.matrix.group_size(), steps.padded) {
    if (steps.step == ProductStep::kFourBytes) return;
    const int64_t count = c.inputs * inputs_.row_size();
    halves_.resize(static_cast<size_t>(count) * sizeof(int16_t));
    std::copy_n(inputs_.codes(0), count, halves_.as<int16_t>());
  }

  DynamicRows rows(int64_t first_group) const {
    const bool bytes = steps_.step == ProductStep::kFourBytes;
    const auto* codes = bytes ? reinterpret_cast<const uint8_t*>(inputs_.codes(0)) : halves_.as<uint8_t>();
    DynamicRows rows;
    rows.codes = codes + first_group * steps_.of_group * 4;
    rows.stride = inputs_.groups() * steps_.of_group * 4;
    rows.inputs = inputs_.inputs();
    rows.scales = inputs_.scales(0) + first_group;
    rows.sums = inputs_.sums(0) + first_group;
    rows.group_stride = inputs_.groups();
    return rows;
  }

 private:
  const Steps& steps_;
  DynamicInputs inputs_;
  AlignedBuffer halves_;
};

/// Codes of kPanelRows rows, some groups after the others. One object per thread.
class PanelReader {
 public:
  PanelReader(const CompressedMatrix& m, const Steps& steps)
      : m_(m), steps_(steps), parameters_(m, kPanelRows), groups_(groups_at_once(m)) {
    row_bytes_ = groups_ * steps.of_group * 4;
    unpacked_.resize(static_cast<size_t>(groups_ * steps.padded));
    rows_.resize(static_cast<size_t>(kPanelRows * row_bytes_));
    codes_.resize(static_cast<size_t>(kPanelRows * row_bytes_));
    std::fill_n(unpacked_.as<uint8_t>(), groups_ * steps.padded, uint8_t{0});
    std::fill_n(rows_.as<uint8_t>(), kPanelRows * row_bytes_, uint8_t{0});
  }

  int64_t groups_at_once() const { return groups_; }

  void start(int64_t first_row, int64_t rows) {
    first_row_ = first_row;
    rows_to_read_ = rows;
    parameters_.start(first_row, rows);
  }

  DynamicPanel read(int64_t first_group, int64_t groups) {
    for (int64_t row = 0; row < rows_to_read_; ++row) read_row(row, first_group, groups);
    // Four bytes move as one float does.
    transpose(rows_.as<float>(), row_bytes_ / 4, kPanelRows, groups * steps_.of_group, nullptr, codes_.as<float>(),
              kPanelRows);
    return {steps_.step,
            codes_.as<uint8_t>(),
            groups,
            steps_.of_group,
            parameters_.scales(first_group),
            parameters_.zeros(first_group)};
  }

 private:
  /// Codes are unpacked from a multiple of 8 on.
  static int64_t groups_at_once(const CompressedMatrix& m) {
    if (m.group_size() % 8 != 0) return m.groups();
    return std::min(m.groups(), std::max<int64_t>(1, kPanelElements / m.group_size()));
  }

  void read_row(int64_t row, int64_t first_group, int64_t groups) {
    const int64_t size = m_.group_size();
    const bool halves = steps_.step == ProductStep::kTwoHalves;
    auto* to = rows_.as<uint8_t>() + row * row_bytes_;
    uint8_t* codes = halves ? unpacked_.as<uint8_t>() : to;
    unpack_codes(m_.codes(first_row_ + row), m_.size(), m_.bits(), first_group * size, groups * size, 0, codes);
    if (steps_.padded != size) {  // from the last group on, so that none is overwritten before it moves
      for (int64_t group = groups - 1; group > 0; --group) {
        std::copy_backward(codes + group * size, codes + (group + 1) * size, codes + group * steps_.padded + size);
      }
    }
    if (!halves) return;
    const bool has_sign = m_.bits() == 8 && m_.kind() == LevelKind::kSigned;
    auto* widened = reinterpret_cast<int16_t*>(to);
    if (has_sign) std::copy_n(reinterpret_cast<const int8_t*>(codes), groups * steps_.padded, widened);
    if (!has_sign) std::copy_n(codes, groups * steps_.padded, widened);
  }

  const CompressedMatrix& m_;
  const Steps& steps_;
  RowParameters parameters_;
  int64_t groups_, row_bytes_ = 0, first_row_ = 0, rows_to_read_ = 0;
  AlignedBuffer unpacked_, rows_, codes_;
};

void write_outputs(const LinearCall& c, int64_t first_row, int64_t rows, const float* totals) {
  for (int64_t input = 0; input < c.inputs; ++input) {
    float* y = c.y + input * c.matrix.rows() + first_row;
    const float* from = totals + input * kPanelRows;
    for (int64_t row = 0; row < rows; ++row)
      y[row] = c.bias == nullptr ? from[row] : from[row] + c.bias[first_row + row];
  }
}

}  // namespace

void dynamic_products_of_many(const LinearCall& c) {
  const Steps steps(c.matrix);
  const StepInputs inputs(c, steps);
  const int64_t panels = (c.matrix.rows() + kPanelRows - 1) / kPanelRows, groups = c.matrix.groups();
  at::parallel_for(0, panels, 1, [&](int64_t begin, int64_t end) {
    PanelReader reader(c.matrix, steps);
    std::vector<float> totals(static_cast<size_t>(c.inputs * kPanelRows));
    for (int64_t first_row = begin * kPanelRows; first_row < std::min(end * kPanelRows, c.matrix.rows());
         first_row += kPanelRows) {
      const int64_t rows = std::min(kPanelRows, c.matrix.rows() - first_row);
      std::fill(totals.begin(), totals.end(), 0.0F);
      reader.start(first_row, rows);
      for (int64_t group = 0; group < groups; group += reader.groups_at_once()) {
        const DynamicPanel panel = reader.read(group, std::min(reader.groups_at_once(), groups - group));
        dynamic_gemm(panel, inputs.rows(group), totals.data());
      }
      write_outputs(c, first_row, rows, totals.data());
    }
  });
}

}  // namespace tsquant::kernels
