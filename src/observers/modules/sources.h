#pragma once

#include <string>

namespace tsquant {

/// TorchScript of the modules: what is written into a saved model. Statistics are written into the buffers in place, so
/// that they stay ordinary tensors when a batch passes in inference mode, with `set_` where the size changes, because
/// the storage of loaded tensors cannot be resized; and from `x.detach()`, so that gradients pass by. Numbers as in
/// torch.ao 1.13 (observer.py, fake_quantize.py, _learnable_fake_quantize.py) unless told otherwise.

extern const char* const kIdentitySource;
extern const char* const kRecordingSource;
extern const char* const kMinMaxSource;
extern const char* const kMovingAverageMinMaxSource;
std::string per_channel_min_max_source();
std::string moving_average_per_channel_min_max_source();
/// The extrema of the finite values of every batch: float32 `sample_min`, `sample_max` [batches], and int64 `unusable`
/// [2], how many values were not finite and how many of them NaN.
extern const char* const kSampleExtremaSource;
/// torch.ao 2.3 with whole counts and fractions in float64: what HistogramObserver (observers/histogram.h) counts.
extern const char* const kHistogramSource;
/// torch.ao 1.13: counts over the range truncated to integers, cells of 1/upsample_rate bin, the range relaxed upwards.
extern const char* const kHistogram1_13Source;

/// `qparams_of`: scale and zero_point from a range, UniformQuantizationObserverBase._calculate_qparams. No attributes.
extern const char* const kQParamsSource;
/// `fake_quantize` by the buffers scale and zero_point.
extern const char* const kFakeQuantizeStepSource;
extern const char* const kFakeQuantizeSource;
extern const char* const kFusedMovingAvgObsSource;
extern const char* const kFixedQParamsSource;
extern const char* const kLearnableSource;

}  // namespace tsquant
