// Products of compressed weights with many inputs: prompts. A panel of the weight, some rows by some elements, is
// decoded into the cache and meets all inputs there.
#include <ATen/Parallel.h>

#include <algorithm>

#include "kernels/aligned_buffer.h"
#include "kernels/compressed_gemm.h"
#include "kernels/compressed_products.h"

namespace tsquant::kernels {
namespace {

// What one task computes, at most: rows of the weight and inputs whose parts stay in the second-level cache.
constexpr int64_t kTaskRows = 8 * kGemmTileRows, kTaskInputs = 128;
/// Elements of a row that are decoded at once: with fewer, rows are read from memory in pieces too short for it, with
/// more, the inputs leave the cache.
constexpr int64_t kChunk = 512;

/// Inputs as the tiles of every chunk of elements: what a panel meets lies together. Tiles of whole rows would begin a
/// power of two apart and share few sets of the cache.
class PackedInputs {
 public:
  explicit PackedInputs(const LinearCall& c)
      : size_(c.matrix.size()), width_(gemm_tile_inputs()), tiles_((c.inputs + width_ - 1) / width_) {
    floats_.resize(static_cast<size_t>(tiles_ * width_ * size_) * sizeof(float));
    at::parallel_for(0, tiles_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t first = tile * width_, inputs = std::min(width_, c.inputs - first);
        for (int64_t k = 0; k < size_; k += kChunk) {
          pack_gemm_inputs(c.x + first * size_ + k, size_, inputs, std::min(kChunk, size_ - k), at(tile, k));
        }
      }
    });
  }

  int64_t width() const { return width_; }
  /// @param begin the first element of a chunk
  const float* tile(int64_t tile, int64_t begin) const { return at(tile, begin); }

 private:
  float* at(int64_t tile, int64_t begin) const {
    const int64_t count = std::min(kChunk, size_ - begin);
    return floats_.as<float>() + (begin * tiles_ + tile * count) * width_;
  }

  int64_t size_, width_, tiles_;
  AlignedBuffer floats_;
};

/// Values of some rows of the weight, a chunk of elements after the other.
class Panel {
 public:
  explicit Panel(const CompressedMatrix& matrix)
      : m_(matrix),
        scales_(static_cast<size_t>(kTaskRows * matrix.groups()) * sizeof(float)),
        zeros_(static_cast<size_t>(kTaskRows * matrix.groups())),
        values_(kTaskRows * kChunk * sizeof(float)) {}

  void start(int64_t first_row, int64_t rows) {
    first_row_ = first_row;
    rows_ = rows;
    m_.read_scales(first_row, rows, scales_.as<float>());
    if (m_.kind() != LevelKind::kUnsigned) return;
    for (int64_t row = 0; row < rows; ++row) m_.read_zeros(first_row + row, zeros_of(row));
  }

  /// @return the values of elements [begin, begin + count), each row kChunk behind the one before
  const float* read(int64_t begin, int64_t count) {
    constexpr int64_t kAhead = 8;  // rows
    alignas(64) uint8_t unpacked[kChunk];
    for (int64_t row = 0; row < kAhead; ++row) prefetch(row, begin, count);
    for (int64_t row = 0; row < rows_; ++row) {
      prefetch(row + kAhead, begin, count);
      const uint8_t* codes = m_.codes(first_row_ + row) + begin;
      if (m_.bits() < 8) {
        unpack_codes(m_.codes(first_row_ + row), m_.size(), m_.bits(), begin, count, m_.offset(), unpacked);
        codes = unpacked;
      }
      const float* scales = scales_.as<float>() + row * m_.groups();
      const RowLevels levels = {m_.kind(), m_.table(), scales, zeros_of(row), m_.group_size()};
      dequantize_codes(levels, codes, begin, count, values_.as<float>() + row * kChunk);
    }
    return values_.as<float>();
  }

 private:
  uint8_t* zeros_of(int64_t row) const { return zeros_.as<uint8_t>() + row * m_.groups(); }

  /// Asks memory for codes from `begin` on: every row is read in short pieces, which no processor foresees. Not all of
  /// a chunk at once, which is more than waits for memory at a time.
  void prefetch(int64_t row, int64_t begin, int64_t count) const {
    if (row >= rows_) return;
    const uint8_t* codes = m_.codes(first_row_ + row) + begin * m_.bits() / 8;
    for (int64_t i = 0; i < count * m_.bits() / 8; i += 64) __builtin_prefetch(codes + i);
  }

  const CompressedMatrix& m_;
  int64_t first_row_ = 0, rows_ = 0;
  AlignedBuffer scales_, zeros_, values_;
};

/// Sums of a task: a row of them for every row of the weight. Rows do not begin a power of two apart.
struct TaskSums {
  static constexpr int64_t kStride = kTaskInputs + 16;
  alignas(64) float sums[kTaskRows * kStride];
};

/// Products of rows [first_row, first_row + kTaskRows) with inputs [first_input, first_input + kTaskInputs).
void run_task(const LinearCall& c, const PackedInputs& packed, Panel& panel, int64_t first_row, int64_t first_input) {
  const int64_t rows = std::min(kTaskRows, c.matrix.rows() - first_row);
  const int64_t inputs = std::min(kTaskInputs, c.inputs - first_input);
  const int64_t width = packed.width(), size = c.matrix.size();
  TaskSums task;
  panel.start(first_row, rows);
  for (int64_t begin = 0; begin < size; begin += kChunk) {
    const int64_t count = std::min(kChunk, size - begin);
    const float* weights = panel.read(begin, count);
    for (int64_t input = 0; input < inputs; input += width) {
      const float* tile = packed.tile((first_input + input) / width, begin);
      for (int64_t row = 0; row < rows; row += kGemmTileRows) {
        gemm_tile(weights + row * kChunk, kChunk, std::min(kGemmTileRows, rows - row), count, tile, begin == 0,
                  task.sums + row * TaskSums::kStride + input, TaskSums::kStride);
      }
    }
  }
  transpose(task.sums, TaskSums::kStride, rows, inputs, c.bias == nullptr ? nullptr : c.bias + first_row,
            c.y + first_input * c.matrix.rows() + first_row, c.matrix.rows());
}

}  // namespace

void products_of_many(const LinearCall& c) {
  const PackedInputs packed(c);
  const int64_t row_tasks = (c.matrix.rows() + kTaskRows - 1) / kTaskRows;
  const int64_t input_tasks = (c.inputs + kTaskInputs - 1) / kTaskInputs;
  at::parallel_for(0, row_tasks * input_tasks, 1, [&](int64_t begin, int64_t end) {
    Panel panel(c.matrix);
    for (int64_t task = begin; task < end; ++task) {
      run_task(c, packed, panel, task / input_tasks * kTaskRows, task % input_tasks * kTaskInputs);
    }
  });
}

}  // namespace tsquant::kernels
