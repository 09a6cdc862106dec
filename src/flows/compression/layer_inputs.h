#pragma once

#include <memory>
#include <vector>

#include "compression/layer_samples.h"
#include "compression/sensitivity.h"
#include "flows/compression/layer_results.h"
#include "flows/compression/rank_group.h"
#include "flows/compression/weight_layers.h"
#include "observers/replayable.h"
#include "tsquant/compress_pt2e.h"
#include "tsquant/observer.h"

namespace tsquant {

/// What the metrics of sensitivity and the algorithms of NNCF know of the inputs of a layer.
class LayerInputs : public Observer, public Replayable {
 public:
  /// @param channel_axis of the inputs: that which the layer sums over
  /// @param keeps_rows whether some inputs are kept as they are
  explicit LayerInputs(int64_t channel_axis, bool keeps_rows = false)
      : channel_axis_(channel_axis), keeps_rows_(keeps_rows) {}

  void observe(const at::Tensor& x) override { replay(summary(x)); }
  void merge(const Observer& other) override;
  Range range() const override;
  /// counters, means float32 [samples, channels], rows int64 [samples], the sums of the metrics float64 [4]; where rows
  /// are kept, these, float32 [kept rows, channels]
  std::vector<at::Tensor> state() const override;
  void set_state(const std::vector<at::Tensor>& state) override;
  /// counters, the means of one sample, its rows, its metrics with the number of values; where rows are kept, some of
  /// the sample's
  std::vector<at::Tensor> summary(const at::Tensor& x) const override;
  void replay(const std::vector<at::Tensor>& summary) override;

  LayerSamples samples() const;
  /// Some of the inputs, float32 [channels, rows], evenly taken from every sample: what a mean over the rows of a
  /// sample does not tell, how large outputs are. Undefined without.
  at::Tensor kept_rows() const;
  const InputStatistics& statistics() const { return statistics_; }

 private:
  /// Of one sample, float32 [rows, channels].
  at::Tensor some_rows(const at::Tensor& x) const;

  int64_t channel_axis_;
  bool keeps_rows_;
  std::vector<at::Tensor> means_, kept_;
  std::vector<int64_t> rows_;
  InputStatistics statistics_;
};

/// What was measured, as the layer is given it now; without samples when it was not measured.
LayerSamples samples_of(const WeightLayer& layer);

/// Runs the data once and gives every matrix multiplication whose other factor is an activation its inputs; layers that
/// read one tensor share them. Some inputs are kept where precisions are chosen under a target, and in the files of
/// statistics_path. What an earlier run has measured is taken from `results`. Several ranks share the
/// samples.
/// @throws Error as calibrate
void collect_layer_inputs(const Model& model, const GraphView& view, std::vector<WeightLayer>& layers,
                          const CompressPt2eOptions& options, LayerResults& results, RankGroup& ranks, Report& report);

}  // namespace tsquant
