#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "tsquant/quantization_spec.h"
#include "tsquant/range.h"
#include "tsquant/range_estimator.h"

namespace tsquant {

/// Collects statistics of one tensor point over many batches in bounded memory.
///
/// Defined behaviour for odd data: empty tensors are ignored; NaN and Inf are counted in `non_finite()` and left out
/// of the statistics; constant data give a valid range of width 0.
class Observer {
 public:
  virtual ~Observer() = default;
  /// @param x any float tensor; @throws Error kCalibration when a per-channel axis does not exist or its size changes
  virtual void observe(const at::Tensor& x) = 0;
  /// Adds the statistics of another observer of the same kind, for threads and machines.
  virtual void merge(const Observer& other) = 0;
  /// @throws Error kCalibration when nothing was observed; kInvalidArgument when a range estimator's lower bound came
  ///         out above its upper one
  virtual Range range() const = 0;
  /// Tensors of the state, in a fixed order, for saving.
  virtual std::vector<at::Tensor> state() const = 0;
  /// Restores what `state` of an observer of the same kind returned. @throws Error kCalibration for other tensors
  virtual void set_state(const std::vector<at::Tensor>& state) = 0;

  /// Number of values that were NaN or infinite.
  int64_t non_finite() const { return non_finite_; }
  /// Number of values that were NaN; part of non_finite().
  int64_t not_a_number() const { return not_a_number_; }
  /// Number of batches that held at least one finite value.
  int64_t batches() const { return batches_; }

 protected:
  /// The three counters as one int64 tensor, for state().
  at::Tensor counters() const;
  /// Takes over what `counters` returned. @param counters int64 [3]
  void set_counters(const at::Tensor& counters);
  /// Adds the three counters of another observer, for merge().
  void add_counters(const Observer& other);

  int64_t non_finite_ = 0;
  int64_t not_a_number_ = 0;
  int64_t batches_ = 0;
};

/// Makes the observer that a spec asks for.
/// @param kind activation or weight: decides what ObserverKind::kDefault means
/// @param batchwise kDefault activations: take min and max per item of dimension 0 instead of per batch
/// @param params kDefault only: overrides the default range estimator field by field
/// @throws Error kInvalidArgument when `params` combines a histogram with something else, or a probability is outside
///         [0, 0.5]
std::unique_ptr<Observer> make_observer(const QuantizationSpec& spec, PointKind kind, bool batchwise = false,
                                        const RangeEstimatorParameters& params = {});

}  // namespace tsquant
