#include "kernels/conv_core.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/depthwise_hwy.h"
#include "kernels/narrow_conv.h"
#include "kernels/requantize.h"
#include "kernels/winograd.h"
#include "ops/quantize_kernels.h"

namespace tsquant::kernels {
namespace {

constexpr size_t kRecentPlans = 8;
/// Each phase of a transposed convolution costs memory and time to prepare.
constexpr int64_t kMostPhases = 4096;
/// Offsets into an image are 32-bit.
constexpr int64_t kMostElements = std::numeric_limits<int32_t>::max();

Epilogue make_epilogue(const ConvCall& call, const Requantize& r, const Residual* residual, int64_t channels,
                       void* result, const float* factor) {
  Epilogue e;
  e.multiplier = r.multiplier.data();
  e.bias = r.bias.data();
  e.zero_point = r.zero_point;
  e.low = r.low;
  e.high = r.high;
  e.float_low = r.float_low;
  e.float_high = r.float_high;
  e.pixel_stride = channels;
  e.floats = call.floats ? static_cast<float*>(result) : nullptr;
  e.codes = call.floats ? nullptr : static_cast<uint8_t*>(result);
  e.activation = call.activation;
  e.factor = factor;
  e.inverse_scale = inverse_scale(call.out_scale);
  e.lowest = static_cast<float>(-r.zero_point);
  e.highest = static_cast<float>(255 - r.zero_point);
  if (residual == nullptr) return e;
  e.other = residual->codes;
  e.other_multiplier = static_cast<float>(residual->scale / call.out_scale);
  e.other_zero_point = static_cast<float>(residual->zero_point);
  e.middle = call.middle;
  e.middle_low = static_cast<float>(call.middle_low - call.middle_zero_point);
  e.middle_high = static_cast<float>(call.middle_high - call.middle_zero_point);
  e.middle_multiplier = static_cast<float>(call.middle_scale / call.out_scale);
  return e;
}

/// Every channel has a kernel of its own, in at most two dimensions.
bool is_depthwise(const ConvGeometry& g) {
  return !g.transposed && g.groups == g.channels && g.groups == g.out_channels && g.depth == 1 && g.kernel_d == 1 &&
         g.pad_d == 0 && DepthwiseConv::supports(g);
}

/// Elements of the padded image, without overflow.
double padded_elements(const ConvGeometry& g) {
  double elements = static_cast<double>(g.channels);
  for (const Axis& axis : g.axes()) elements *= static_cast<double>(axis.size + 2 * axis.pad);
  return elements;
}

}  // namespace

bool ConvCall::operator==(const ConvCall& o) const {
  return sizes == o.sizes && rank == o.rank && in_scale == o.in_scale && out_scale == o.out_scale &&
         in_zero_point == o.in_zero_point && out_zero_point == o.out_zero_point && floats == o.floats &&
         clamp == o.clamp && middle == o.middle && middle_scale == o.middle_scale &&
         middle_zero_point == o.middle_zero_point && middle_low == o.middle_low && middle_high == o.middle_high &&
         activation == o.activation;
}

/// What does not depend on the call, made at the first one. Of the packed forms each is made when a call first needs
/// it.
struct ConvCore::Weights {
  Weights(const ConvSpec& spec, const ConvGeometry& g)
      : codes(spec.weight.data_ptr<int8_t>()), geometry(g), phases(phases_of(g)), row(best_gemm_row()) {
    for (const Phase& phase : phases) sums.push_back(weight_sums(codes, g, phase));
    // The choice holds for later inputs too, and those of a three-dimensional convolution may be deeper.
    if (spec.spatial_dims() > 2) return;
    if (is_depthwise(g)) {
      depthwise = std::make_unique<DepthwiseConv>(codes, g);
    } else if (WinogradConv::supports(g, codes)) {
      winograd_kernel_ = winograd_kernel(row.isa);
    } else if (NarrowConv::supports(g) && narrow_kernel(row.isa) != nullptr) {
      narrow = std::make_unique<NarrowConv>(*narrow_kernel(row.isa), codes, g);
    }
  }

  const PackedConv& direct() const {
    std::call_once(direct_once_, [&] { direct_ = std::make_unique<PackedConv>(row, codes, geometry, phases); });
    return *direct_;
  }
  /// Null where the direct form is the better or the only one.
  const WinogradConv* winograd(const ConvGeometry& g) const {
    if (winograd_kernel_ == nullptr || !WinogradConv::pays(g)) return nullptr;
    std::call_once(winograd_once_,
                   [&] { winograd_ = std::make_unique<WinogradConv>(*winograd_kernel_, codes, geometry); });
    return winograd_.get();
  }

  const int8_t* codes;
  ConvGeometry geometry;
  std::vector<Phase> phases;
  const GemmRow& row;
  std::vector<WeightSums> sums;
  std::unique_ptr<DepthwiseConv> depthwise;
  std::unique_ptr<NarrowConv> narrow;

 private:
  const WinogradKernel* winograd_kernel_ = nullptr;
  mutable std::once_flag direct_once_, winograd_once_;
  mutable std::unique_ptr<const PackedConv> direct_;
  mutable std::unique_ptr<const WinogradConv> winograd_;
};

struct ConvCore::Plan {
  ConvCall call;
  bool integers = false;  ///< false: through floats
  ConvShape shape;
  std::vector<Requantize> requantize;  ///< per phase
  /// The kernel family that computes this call: one of them is set.
  const DepthwiseConv* depthwise = nullptr;
  const WinogradConv* winograd = nullptr;
  const PackedConv* direct = nullptr;
  /// Beside `direct`: for results that it supports.
  const NarrowConv* narrow = nullptr;
};

ConvCore::ConvCore(const ConvSpec& spec) : spec_(spec.checked()) {}

ConvCore::~ConvCore() {
  for (const auto& plan : kept_) delete plan.load();
}

std::vector<int64_t> ConvCore::output_sizes(at::IntArrayRef input) const {
  const ConvGeometry g = spec_.geometry(input);
  std::vector<int64_t> sizes = {g.batch, g.out_channels, g.out_depth(), g.out_height(), g.out_width()};
  sizes.erase(sizes.begin() + 2, sizes.begin() + 5 - spec_.spatial_dims());
  return sizes;
}

const ConvCore::Weights& ConvCore::weights(const ConvGeometry& g) const {
  std::call_once(packed_once_, [&] { weights_ = std::make_unique<Weights>(spec_, g); });
  return *weights_;
}

std::unique_ptr<ConvCore::Plan> ConvCore::make_plan(const ConvCall& call) const {
  auto plan = std::make_unique<Plan>();
  plan->call = call;
  ConvGeometry g = spec_.geometry(call.input());
  if (count_phases(g) > kMostPhases) return plan;
  TORCH_CHECK(padded_elements(g) < static_cast<double>(kMostElements), "tsquant: one padded image of shape ",
              call.input(), " has too many values for a convolution; at most ", kMostElements, " are possible");
  const Weights& w = weights(g);
  for (const WeightSums& sums : w.sums) {
    plan->requantize.push_back(make_requantize(spec_, sums, call));
    if (!plan->requantize.back().exact || !plan->requantize.back().safe) return plan;
  }
  if (g.pointwise() && g.batch * g.in_pixels() * g.channels <= kMostElements) {
    // All pixels are computed alike: they make one line.
    g.width = g.batch * g.in_pixels();
    g.batch = g.depth = g.height = 1;
  }
  plan->shape.geometry = g;
  if (w.depthwise != nullptr) {
    plan->depthwise = w.depthwise.get();
  } else if ((plan->winograd = w.winograd(g)) == nullptr) {
    plan->direct = &w.direct();
    plan->shape = plan->direct->shape(g);
    plan->narrow = w.narrow.get();
  }
  plan->integers = true;
  return plan;
}

std::shared_ptr<const ConvCore::Plan> ConvCore::find_plan(const ConvCall& call, const Plan** found) const {
  const auto kept = [&]() -> const Plan* {
    for (const auto& slot : kept_) {
      const Plan* plan = slot.load(std::memory_order_acquire);
      if (plan == nullptr || plan->call == call) return plan;
    }
    return nullptr;
  };
  if ((*found = kept()) != nullptr) return nullptr;
  const std::lock_guard<std::mutex> lock(mutex_);
  if ((*found = kept()) != nullptr) return nullptr;
  for (const auto& plan : recent_) {
    if (plan->call == call) {
      *found = plan.get();
      return plan;
    }
  }
  auto plan = make_plan(call);
  *found = plan.get();
  for (auto& slot : kept_) {
    if (slot.load(std::memory_order_relaxed) != nullptr) continue;
    slot.store(plan.release(), std::memory_order_release);
    return nullptr;
  }
  if (recent_.size() == kRecentPlans) recent_.erase(recent_.begin());
  recent_.emplace_back(std::move(plan));
  return recent_.back();
}

/// A matrix product whose rows do not fit into one image.
bool ConvCore::run_chunks(const ConvCall& call, int64_t rows, const uint8_t* source, void* result,
                          const Residual* residual, const float* factor) const {
  const int64_t channels = spec_.in_channels(), out = spec_.out_channels();
  const int64_t most = std::max<int64_t>(1, kMostElements / std::max(channels, out));
  for (int64_t row = 0; row < rows; row += most) {
    ConvCall part = call;
    part.sizes = {1, channels};
    std::fill(part.sizes.begin() + 2, part.sizes.begin() + part.rank, 1);
    part.sizes[static_cast<size_t>(part.rank - 1)] = std::min(most, rows - row);
    Residual other = residual != nullptr ? *residual : Residual();
    if (residual != nullptr) other.codes += row * out;
    auto* to = static_cast<std::byte*>(result) + row * out * (call.floats ? 4 : 1);
    if (!run(part, source + row * channels, to, residual != nullptr ? &other : nullptr, factor)) return false;
  }
  return true;
}

bool ConvCore::run(const ConvCall& call, const uint8_t* source, void* result, const Residual* residual,
                   const float* factor) const {
  const ConvGeometry g = spec_.geometry(call.input());
  const int64_t rows = g.batch * g.in_pixels();
  if (g.pointwise() && rows > 1 && rows > kMostElements / std::max(g.channels, g.out_channels)) {
    return run_chunks(call, rows, source, result, residual, factor);
  }
  if (residual != nullptr) {
    // The sum of both must fit into an integer.
    const double largest = std::max(residual->scale, call.middle ? call.middle_scale : 0.0) / call.out_scale * 255;
    if (!(largest < 1e9)) return false;
  }
  const Plan* plan = nullptr;
  const auto owner = find_plan(call, &plan);
  if (!plan->integers) return false;
  // The kernels have no bounds before an activation.
  if (call.activation != Activation::kNone && (std::isfinite(spec_.clamp_min) || std::isfinite(spec_.clamp_max))) {
    return false;
  }
  std::vector<Epilogue> epilogues;
  for (const Requantize& r : plan->requantize) {
    epilogues.push_back(make_epilogue(call, r, residual, spec_.out_channels(), result, factor));
  }
  const auto zero_point = static_cast<uint8_t>(call.in_zero_point);
  if (plan->narrow != nullptr && NarrowConv::supports(epilogues.front())) {
    plan->narrow->run(plan->shape.geometry, source, epilogues.front());
  } else if (plan->direct != nullptr) {
    plan->direct->run(plan->shape, source, zero_point, epilogues);
  } else if (plan->winograd != nullptr) {
    plan->winograd->run(plan->shape.geometry, source, zero_point, epilogues.front());
  } else {
    plan->depthwise->run(plan->shape.geometry, source, zero_point, epilogues.front());
  }
  return true;
}

}  // namespace tsquant::kernels
