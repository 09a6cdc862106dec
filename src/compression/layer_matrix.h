#pragma once

#include <string>

#include "compression/compressed_weight.h"

namespace tsquant {

/// The weight of a layer as algorithms see it, whatever axis its inputs lie on: float32 [out_features, in_features],
/// with one scale for each group of neighbouring inputs of an output. One scale per output is one group.
class LayerMatrix {
 public:
  /// @param weight 2-dimensional, floating point
  /// @param spec of the weight: group_size, with the inputs along group_axis, or per_channel, with the outputs along
  ///        ch_axis; the formula is kNncfCompression whatever it says
  /// @param algorithm its name, for messages
  /// @throws Error kInvalidArgument as check_spec, for other weights, for a spec with one scale for all, and when the
  ///         inputs are no whole number of groups
  LayerMatrix(const at::Tensor& weight, const QuantizationSpec& spec, const std::string& algorithm);

  const at::Tensor& weight() const { return weight_; }
  const QuantizationSpec& spec() const { return spec_; }  ///< of `weight()`, in groups along axis 1
  int64_t outputs() const { return weight_.size(0); }
  int64_t inputs() const { return weight_.size(1); }
  int64_t group_size() const { return spec_.group_size; }
  int64_t groups() const { return inputs() / group_size(); }

  /// Refuses data of another number of channels than inputs.
  /// @throws Error kInvalidArgument
  void check_channels(int64_t channels) const;

  /// Something in the shape of the given weight as [out_features, in_features].
  at::Tensor from_given(const at::Tensor& x) const { return transposed_ ? x.t() : x; }
  /// A result for `weight()` as one for the given weight.
  CompressedWeight as_given(const CompressedWeight& compressed) const;

 private:
  at::Tensor weight_;
  QuantizationSpec spec_, given_;
  std::string algorithm_;
  bool transposed_ = false;
};

}  // namespace tsquant
