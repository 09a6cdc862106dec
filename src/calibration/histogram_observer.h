#pragma once

#include "calibration/histogram.h"
#include "tsquant/observer.h"

namespace tsquant {

/// The range that minimises the expected squared quantization error of all values seen, per tensor.
class HistogramObserver : public Observer {
 public:
  void observe(const at::Tensor& x) override;
  void merge(const Observer& other) override;
  Range range() const override;
  std::vector<at::Tensor> state() const override;
  void set_state(const std::vector<at::Tensor>& state) override;

  const Histogram& histogram() const { return histogram_; }

 private:
  Histogram histogram_;
};

}  // namespace tsquant
