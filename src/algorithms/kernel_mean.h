#pragma once

#include <vector>

#include "graph/kernel_geometry.h"
#include "observers/replayable.h"
#include "tsquant/observer.h"

namespace tsquant {

/// For each input channel and kernel offset the mean of the values that the layer's outputs read there, zero padding
/// included: M[c, k] = 1 / P * sum over the P output positions of x[c, where offset k reads]. A layer is linear, so its
/// exact mean output for any weight W of the same shape is sum over c, k of W[o, c, k] * M[c, k] (plus the bias): all
/// that bias correction needs to know about the data, in a few numbers and for inputs of any size.
///
/// Items of dimension 0 are added one after the other, so that the statistics do not depend on the batch size. Images
/// count equally; rows of linear layers count equally.
class KernelMean : public Observer, public Replayable {
 public:
  explicit KernelMean(KernelGeometry geometry) : geometry_(std::move(geometry)) {}

  void observe(const at::Tensor& x) override;
  void merge(const Observer& other) override;
  Range range() const override;
  std::vector<at::Tensor> state() const override;
  void set_state(const std::vector<at::Tensor>& state) override;
  /// counters, float64 [items, channels * kernel], and int64 [1]: rows per item of a linear layer, 1 otherwise
  std::vector<at::Tensor> summary(const at::Tensor& x) const override;
  void replay(const std::vector<at::Tensor>& summary) override;

  /// Mean output of the layer with these weights and no bias: float64 [output channels], the same bits for every
  /// number of threads.
  at::Tensor response(const at::Tensor& weight) const;
  /// Whether each output channel reads all input channels with its own slice along axis 0 of the weight, so that
  /// `response` also takes some of these slices.
  bool takes_slices() const { return geometry_.groups == 1 && !geometry_.transposed; }

 private:
  void add_item(const double* sums, int64_t count, int64_t weight);

  KernelGeometry geometry_;
  at::Tensor sum_;      // double [channels * kernel]
  int64_t weight_ = 0;  // number of items, or of rows
};

}  // namespace tsquant
