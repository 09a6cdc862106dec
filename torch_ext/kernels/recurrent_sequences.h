// Runs a recurrent layer over sequences of equal or of different lengths.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/recurrent_loops.h"

namespace tsquant::kernels {

/// Where the rows of a batch of sequences lie, the longest first: step after step, at each step a row of every sequence
/// that is not over.
struct SequenceRows {
  std::vector<int64_t> sizes;  ///< sequences of each step, never more than of the step before
  std::vector<int64_t> first;  ///< row of each step

  explicit SequenceRows(std::vector<int64_t> sizes_of_steps);
  int64_t batch() const { return sizes.empty() ? 0 : sizes.front(); }
  int64_t total() const { return sizes.empty() ? 0 : first.back() + sizes.back(); }
};

/// Some sequences of a batch in one direction of a layer.
struct SequenceRun {
  GateProducts products;  ///< `x`: of the first row of all, [total, inputs]
  RecurrentRows rows;     ///< `rows`: how many sequences; `cell` of the first of them
  int64_t gates = 0;
  int64_t begin = 0;  ///< the first of the sequences
  bool reverse = false;
  float* output = nullptr;  ///< of the first row of all
  int64_t out_stride = 0;
  float* hidden = nullptr;  ///< of the first of the sequences, the first states, replaced by the last
  void (*multiply)(const GateProducts&) = nullptr;
  void (*advance)(const RecurrentRows&) = nullptr;
};

/// What else is in the batch changes no bit of a sequence.
void run_sequences(const SequenceRun& some, const SequenceRows& batch);

}  // namespace tsquant::kernels
