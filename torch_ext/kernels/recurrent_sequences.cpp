#include "kernels/recurrent_sequences.h"

#include <algorithm>
#include <utility>

namespace tsquant::kernels {
namespace {

constexpr int64_t kRowsAtOnce = 12;  // of products of the input

/// Gates [count, rows, gates, units] from the input of `count` steps whose first rows are `step_rows` apart. Rows of
/// one matrix product are those of one step, or those of one sequence when there are few sequences.
void multiply_inputs(const SequenceRun& some, const float* x, int64_t count, int64_t rows, int64_t step_rows,
                     float* out) {
  GateProducts p = some.products;
  const int64_t row_size = some.gates * p.units, step_size = rows * row_size, x_step = step_rows * p.inputs;
  const bool by_step = rows >= count;
  p.rows = by_step ? rows : count;
  p.x_stride = by_step ? p.inputs : x_step;
  p.out_stride = by_step ? row_size : step_size;
  for (int64_t i = 0; i < (by_step ? count : rows); ++i) {
    p.x = x + i * (by_step ? x_step : p.inputs);
    p.out = out + i * (by_step ? step_size : row_size);
    some.multiply(p);
  }
}

/// The hidden states of the sequences that are under way: the one that a step reads, and the one that it writes.
class States {
 public:
  States(float* kept, int64_t count, int64_t units)
      : kept_(kept), size_(count * units), units_(units), values_(2 * size_) {}

  const float* now() const { return values_.data() + turn_ * size_; }
  float* next() { return values_.data() + (1 - turn_) * size_; }
  void turn() { turn_ = 1 - turn_; }

  /// Sequences begin with their first state and leave their last one.
  void resize(int64_t rows) {
    float* states = values_.data() + turn_ * size_;
    if (rows > rows_) std::copy(kept_ + rows_ * units_, kept_ + rows * units_, states + rows_ * units_);
    if (rows < rows_) std::copy(states + rows * units_, states + rows_ * units_, kept_ + rows * units_);
    rows_ = rows;
  }

 private:
  float* kept_;
  int64_t size_, units_, rows_ = 0, turn_ = 0;
  std::vector<float> values_;
};

}  // namespace

SequenceRows::SequenceRows(std::vector<int64_t> sizes_of_steps) : sizes(std::move(sizes_of_steps)) {
  int64_t row = 0;
  for (const int64_t size : sizes) {
    first.push_back(row);
    row += size;
  }
}

void run_sequences(const SequenceRun& some, const SequenceRows& batch) {
  const int64_t steps = static_cast<int64_t>(batch.sizes.size()), units = some.rows.units,
                inputs = some.products.inputs;
  const int64_t sequences = some.rows.rows, row_size = some.gates * units;
  const auto step_at = [&](int64_t turn) { return some.reverse ? steps - 1 - turn : turn; };
  std::vector<float> gates(std::max(sequences, kRowsAtOnce) * row_size);
  States states(some.hidden, sequences, units);
  RecurrentRows rows = some.rows;
  for (int64_t turn = 0; turn < steps;) {
    const int64_t size = batch.sizes[step_at(turn)];
    rows.rows = std::min(sequences, size - some.begin);
    if (rows.rows <= 0) {
      if (!some.reverse) break;
      ++turn;
      continue;
    }
    states.resize(rows.rows);
    int64_t count = 1;  // steps of equal size lie at equal distances
    while ((count + 1) * rows.rows <= kRowsAtOnce && turn + count < steps &&
           batch.sizes[step_at(turn + count)] == size) {
      ++count;
    }
    const float* x = some.products.x + (batch.first[step_at(turn)] + some.begin) * inputs;
    multiply_inputs(some, x, count, rows.rows, some.reverse ? -size : size, gates.data());
    for (int64_t i = 0; i < count; ++i, ++turn) {
      rows.gates = gates.data() + i * rows.rows * row_size;
      rows.hidden = states.now();
      rows.next = states.next();
      some.advance(rows);
      float* output = some.output + (batch.first[step_at(turn)] + some.begin) * some.out_stride;
      for (int64_t k = 0; k < rows.rows; ++k) std::copy_n(rows.next + k * units, units, output + k * some.out_stride);
      states.turn();
    }
  }
  states.resize(0);
}

}  // namespace tsquant::kernels
