#pragma once

#include <ATen/ATen.h>

#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/recurrent_sequences.h"

namespace tsquant::kernels {

enum class RecurrentKind { kLstm, kGru };

/// The layers of an LSTM or a GRU. The weights are kept as they were given, in codes, float16 or float32; they become
/// floats in the order of the kernel at the first call.
class RecurrentLayers {
 public:
  /// weights; layers, whether both directions, whether the batch is the first axis
  using State = std::tuple<std::vector<at::Tensor>, std::vector<int64_t>>;

  /// What the layers give in evaluation mode. Hidden and cell states are [layers * directions, batch, units].
  struct Result {
    at::Tensor output, hidden, cell;  ///< no `cell` of a GRU
  };

  /// @param state weights as aten::lstm and aten::gru take them with biases, without projections: for every layer and
  ///        direction those of the input, of the hidden state and the two biases
  /// @throws c10::Error when the shapes do not fit
  RecurrentLayers(RecurrentKind kind, State state);

  const State& state() const { return state_; }
  std::string description() const;

  /// @param x float [steps, batch, features], or the batch first
  /// @param states hidden state, and cell state of an LSTM
  Result run(const at::Tensor& x, const std::vector<at::Tensor>& states) const;

  /// Sequences of different lengths, as torch.nn.utils.rnn.pack_padded_sequence gives them: the batch is never first.
  /// @param data float [rows, features], the rows of the first step, of the second step, ...
  /// @param batch_sizes sequences of each step, of int64
  Result run_packed(const at::Tensor& data, const at::Tensor& batch_sizes, const std::vector<at::Tensor>& states) const;

  /// One step, as aten::lstm_cell and aten::gru_cell take it: of one layer with one direction. No `output`.
  /// @param x float [batch, features]
  /// @param states [batch, units] each
  Result step(const at::Tensor& x, const std::vector<at::Tensor>& states) const;

 private:
  /// One direction of one layer as the kernel reads it.
  struct Direction {
    at::Tensor input, hidden;   ///< packed, see GateProducts
    at::Tensor bias, new_bias;  ///< [gates * units]; GRU: [units]
  };

  const char* name() const { return kind_ == RecurrentKind::kLstm ? "LSTM" : "GRU"; }
  int64_t gates() const { return kind_ == RecurrentKind::kLstm ? 4 : 3; }
  int64_t layers() const { return std::get<1>(state_)[0]; }
  int64_t directions() const { return std::get<1>(state_)[1] != 0 ? 2 : 1; }
  bool batch_first() const { return std::get<1>(state_)[2] != 0; }
  int64_t units() const { return std::get<0>(state_)[1].size(1); }
  void check() const;
  void check_input(const at::Tensor& x, int64_t dimensions) const;
  void check_states(const std::vector<at::Tensor>& states, int64_t batch) const;
  void pack() const;
  at::Tensor packed(const at::Tensor& weight) const;
  /// @param x [rows of `batch`, features]
  /// @return `output` as [rows, directions * units]
  Result run_layers(const at::Tensor& x, const SequenceRows& batch, const std::vector<at::Tensor>& states) const;
  /// @param x contiguous [rows of `batch`, features]
  /// @param hidden the first one, replaced by the last
  /// @param cell replaced; undefined for a GRU
  /// @param output [rows, units of all directions]
  void run_direction(const Direction& direction, const at::Tensor& x, const SequenceRows& batch, bool reverse,
                     const at::Tensor& hidden, const at::Tensor& cell, const at::Tensor& output) const;

  RecurrentKind kind_;
  State state_;
  mutable std::once_flag packed_;
  mutable std::vector<Direction> packed_directions_;
};

}  // namespace tsquant::kernels
