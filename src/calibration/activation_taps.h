#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "calibration/calibrator.h"
#include "calibration/statistics_file.h"
#include "observers/distinct_values.h"
#include "run/sample_scheduler.h"

namespace tsquant {

/// Name of a point for messages: "conv1/conv2d/0 input 1".
std::string place_of(const QuantizationPoint& point);

/// The tensor of a point: an edge into an operator, or what a node produces. @throws Error kInvalidArgument
TapPoint tap_of(const GraphView& view, const QuantizationPoint& point);

/// The activation points of a run and the extra taps, with their observers. Taps are numbered: points first.
class ActivationTaps {
 public:
  using Sink = std::function<void(size_t tap, const at::Tensor& x)>;

  ActivationTaps(const Model& model, const GraphView& view, const Annotations& annotations,
                 const CalibrationOptions& options);

  bool empty() const { return taps_.empty(); }
  size_t size() const { return taps_.size(); }
  Observer& observer(size_t tap) { return *taps_[tap].observer; }
  std::string place(size_t tap) const;
  /// See TapRunner::stateful.
  bool stateful() const { return runner_->stateful(); }

  /// Runs one sample and gives every floating point tensor at a tap to the sink. What the sink throws is thrown again
  /// after the sample, because errors inside the interpreter would lose their type; an Error gets the tap's place.
  void run(const Sample& sample, const Sink& sink) const;
  /// Runs one sample and feeds the observers, each with the samples in their order.
  void observe(const Sample& sample, int64_t index, Turn& turn);

  /// All states in the order of the taps, and back. @throws Error kCalibration when they do not fit
  std::vector<std::pair<std::string, std::vector<at::Tensor>>> states() const;
  void set_states(const std::vector<std::pair<std::string, std::vector<at::Tensor>>>& states);

  /// Gives the observers of the points to the table, with the different values that were seen here and remarks about
  /// infinite values.
  void move_into(StatTable& table);

 private:
  struct Tap {
    const QuantizationPoint* point = nullptr;  ///< none for an extra tap
    std::unique_ptr<Observer> owned;
    Observer* observer = nullptr;
    std::string node;      ///< of an extra tap
    bool in_loop = false;  ///< a sample may pass it several times
    DistinctValues distinct;
  };

  std::string name(size_t tap) const;

  void run_inplace(const Sample& sample, const Sink& sink) const;
  void run_and_keep(const Sample& sample, const Sink& sink) const;

  std::vector<Tap> taps_;
  std::unique_ptr<TapRunner> runner_;
  bool inplace_;
};

/// @throws Error kCalibration when a sample made NaN values, of which the statistics know nothing
void require_no_nan(int64_t not_a_number, const at::Tensor& x, int64_t sample);

}  // namespace tsquant
