#pragma once

#include <functional>

#include "calibration/activation_taps.h"

namespace tsquant {

class StatisticsExchange;

/// Where the samples of a run come from and who is told about progress. Both may throw.
struct SampleSource {
  std::function<Sample(int64_t index)> get;
  std::function<void(int64_t done)> report;
};

/// Runs the samples of this rank (index modulo number of ranks) and leaves every observer on every rank in the state
/// that one process would have reached with all `total` samples, bit for bit.
///
/// Every few samples the ranks exchange what their taps saw and replay it in the order of the samples (see Replayable);
/// histograms take a second pass over the data (see HistogramObserver). An error on one rank is thrown on all.
/// @throws Error kCalibration when there are more ranks than samples, when the model keeps state between samples, or
///         for an observer that is neither Replayable nor a histogram
void run_sharded(ActivationTaps& taps, int64_t total, const SampleSource& source, StatisticsExchange& exchange);

}  // namespace tsquant
