#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/conv_spec.h"
#include "kernels/packed_conv.h"

namespace tsquant::kernels {

/// One use of a convolution: shapes and quantization parameters. Equal calls share their preparation.
struct ConvCall {
  std::array<int64_t, 5> sizes{};  ///< of the input: batch, channels, spatial...
  int64_t rank = 4;                ///< 3 to 5
  double in_scale = 1, out_scale = 1;
  int64_t in_zero_point = 0, out_zero_point = 0;
  bool floats = false;  ///< float32 output instead of codes
  bool clamp = true;    ///< apply the fused activation
  /// Residual calls: the convolution's own result is quantized with these before the residual is added.
  bool middle = false;
  double middle_scale = 1;
  int64_t middle_zero_point = 0, middle_low = 0, middle_high = 255;  ///< unsigned codes
  Activation activation = Activation::kNone;  ///< before the result is quantized; not with floats or a residual

  /// Whether the kernels turn sums into real values first.
  bool real_results() const { return floats || activation != Activation::kNone; }

  at::IntArrayRef input() const { return {sizes.data(), static_cast<size_t>(rank)}; }
  bool operator==(const ConvCall& o) const;
};

/// Residual codes that are added before the activation; they have the layout of the result.
struct Residual {
  const uint8_t* codes = nullptr;
  double scale = 1;
  int64_t zero_point = 0;
};

/// An integer convolution that prepares itself for each call it meets and remembers the last ones. Thread-safe.
class ConvCore {
 public:
  /// Checks the spec.
  explicit ConvCore(const ConvSpec& spec);
  ~ConvCore();

  const ConvSpec& spec() const { return spec_; }
  std::vector<int64_t> output_sizes(at::IntArrayRef input) const;

  /// Channels-last data, unsigned codes. Returns false, with nothing written, when the call has to be computed through
  /// floats: sums that could leave 32 bits, scales so far apart that the conversion to integers could overflow, or more
  /// phases of a transposed convolution than are worth packing, bounds before an activation.
  /// @param factor behind call.activation: one per output channel and Epilogue::kSlack more, or null
  bool run(const ConvCall& call, const uint8_t* source, void* result, const Residual* residual = nullptr,
           const float* factor = nullptr) const;

 private:
  struct Plan;
  struct Weights;
  static constexpr size_t kKeptPlans = 8;

  std::shared_ptr<const Plan> find_plan(const ConvCall& call, const Plan** found) const;
  std::unique_ptr<Plan> make_plan(const ConvCall& call) const;
  const Weights& weights(const ConvGeometry& geometry) const;
  bool run_chunks(const ConvCall& call, int64_t rows, const uint8_t* source, void* result, const Residual* residual,
                  const float* factor) const;

  ConvSpec spec_;
  mutable std::once_flag packed_once_;
  mutable std::unique_ptr<const Weights> weights_;
  /// The first plans are read without a lock and stay as long as this object; later ones come and go.
  mutable std::array<std::atomic<const Plan*>, kKeptPlans> kept_{};
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<const Plan>> recent_;
};

}  // namespace tsquant::kernels
