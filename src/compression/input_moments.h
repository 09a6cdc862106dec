#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace tsquant {

/// What the inputs x of a layer y = x W^T are like: H = E[x^T x] and E[x] over all rows. (W - Q) H (W - Q)^T is then
/// the mean squared error of the outputs.
///
/// Rows are multiplied in float32, a fixed number of them at a time, and added in float64; of the symmetric H the lower
/// blocks alone are kept. So the result depends neither on how rows were cut into calls of `add`, nor on the number of
/// threads. Memory: 4 bytes for each of the channels^2, and 2048 rows.
class InputMoments {
 public:
  InputMoments() = default;
  InputMoments(InputMoments&&) = default;
  InputMoments& operator=(InputMoments&&) = default;
  InputMoments(const InputMoments&) = delete;
  InputMoments& operator=(const InputMoments&) = delete;

  /// @param inputs [..., channels], floating point; all but the last dimension count rows
  /// @throws Error kInvalidArgument for another type and another number of channels than before
  void add(const at::Tensor& inputs);
  /// Adds what another one saw. Merging in the same order gives the same bits.
  /// @throws Error kInvalidArgument for another number of channels
  void merge(const InputMoments& other);

  int64_t rows() const { return rows_; }
  int64_t channels() const { return sum_.defined() ? sum_.numel() : 0; }

  /// H, float32 [channels, channels], symmetric
  /// @throws Error kCalibration without rows, and when a row had a NaN or infinite value
  at::Tensor hessian() const;
  /// E[x], float32 [channels]. @throws as hessian
  at::Tensor mean() const;
  /// E[x^2], the diagonal of H, float32 [channels]. @throws as hessian
  at::Tensor mean_square() const;

  /// All of it, for files and other processes.
  std::vector<at::Tensor> state() const;
  /// @throws Error kCalibration when it is not what `state` gives
  void set_state(const std::vector<at::Tensor>& state);

 private:
  void start(int64_t channels);
  void add_rows(const at::Tensor& rows);
  void multiply_pending();
  at::Tensor pending() const { return pending_.narrow(0, 0, pending_rows_); }
  void check_usable() const;

  int64_t rows_ = 0;                ///< of all, the pending ones included
  at::Tensor sum_;                  ///< float64 [channels], of the rows that were multiplied
  std::vector<at::Tensor> blocks_;  ///< float64: rows of blocks of the sum of x^T x, up to the diagonal block
  at::Tensor pending_;              ///< float32 [2048, channels]: rows that wait for more
  int64_t pending_rows_ = 0;
};

}  // namespace tsquant
