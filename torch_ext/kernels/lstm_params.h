#pragma once

#include <ATen/ATen.h>
#include <torch/custom_class.h>

#include <mutex>
#include <string>
#include <tuple>
#include <vector>

namespace tsquant::kernels {

/// TorchScript object that holds the layers of an LSTM (`torch.classes.tsquant.LstmParams`). Files have the weights as
/// they were given, in codes, float16 or float32; they become floats in the order of the kernel at the first call.
class LstmParams : public torch::CustomClassHolder {
 public:
  /// weights; layers, whether both directions, whether the batch is the first axis
  using State = std::tuple<std::vector<at::Tensor>, std::vector<int64_t>>;
  using Result = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

  /// @param state weights as aten::lstm takes them with biases, without projections: for every layer and direction
  /// those
  ///        of the input, of the hidden state and the two biases
  /// @throws c10::Error when the shapes do not fit
  explicit LstmParams(State state);

  const State& state() const { return state_; }
  std::string description() const;

  /// What aten::lstm gives in evaluation mode: output, last hidden state, last cell state.
  /// @param x float [steps, batch, features], or the batch first
  /// @param states hidden and cell state, [layers * directions, batch, units]
  Result run(const at::Tensor& x, const std::vector<at::Tensor>& states) const;

 private:
  /// One direction of one layer as the kernel reads it.
  struct Direction {
    at::Tensor input, bias;  ///< [features, 4 * units], [4 * units]
    at::Tensor hidden;       ///< packed, see LstmRows
  };

  int64_t layers() const { return std::get<1>(state_)[0]; }
  int64_t directions() const { return std::get<1>(state_)[1] != 0 ? 2 : 1; }
  bool batch_first() const { return std::get<1>(state_)[2] != 0; }
  void check() const;
  void pack() const;
  /// @param output of this direction, [steps, batch, units] of all directions
  void run_direction(const Direction& direction, const at::Tensor& x, bool reverse, const at::Tensor& hidden,
                     const at::Tensor& cell, const at::Tensor& output) const;

  State state_;
  mutable std::once_flag packed_;
  mutable std::vector<Direction> packed_directions_;
};

}  // namespace tsquant::kernels
