#include "kernels/conv_core.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <limits>

#include "kernels/cpu_features.h"
#include "kernels/dnnl_conv.h"
#include "kernels/requantize.h"

namespace tsquant::kernels {
namespace {

constexpr size_t kMostPlans = 8;

}  // namespace

bool ConvCall::operator==(const ConvCall& o) const {
  return sizes == o.sizes && rank == o.rank && in_scale == o.in_scale && out_scale == o.out_scale &&
         in_zero_point == o.in_zero_point && out_zero_point == o.out_zero_point && floats == o.floats &&
         clamp == o.clamp && middle == o.middle && middle_scale == o.middle_scale &&
         middle_zero_point == o.middle_zero_point;
}

struct ConvCore::Plan {
  ConvCall call;
  Requantize requantize;
  ConvGeometry geometry;
  std::shared_ptr<const OffsetTable> offsets;  // set: the VNNI kernel
  std::unique_ptr<DnnlConv> dnnl;              // set: oneDNN; neither: through floats
};

ConvCore::ConvCore(ConvSpec spec) : spec_(spec.checked()), sums_(weight_sums(spec_)) {}

std::vector<int64_t> ConvCore::output_sizes(const std::vector<int64_t>& input) const {
  std::vector<int64_t> output = {input[0], spec_.out_channels()};
  for (size_t i = 0; i + 2 < input.size(); ++i) {
    const int64_t reach = spec_.dilation[i] * (spec_.weight.size(static_cast<int64_t>(i) + 2) - 1);
    const int64_t padding = 2 * spec_.padding[i], size = input[i + 2];
    if (spec_.transposed) {
      output.push_back((size - 1) * spec_.stride[i] - padding + reach + spec_.output_padding[i] + 1);
    } else {
      TORCH_CHECK(size + padding > reach, "tsquant: the kernel spans ", reach + 1,
                  " values, the padded input has only ", size + padding);
      output.push_back((size + padding - reach - 1) / spec_.stride[i] + 1);
    }
  }
  return output;
}

bool ConvCore::geometry_for(const ConvCall& call, ConvGeometry& g) const {
  if (!has_vnni() || call.rank != 4 || spec_.groups != 1 || spec_.transposed) return false;
  g.batch = call.sizes[0];
  g.channels = call.sizes[1];
  g.height = call.sizes[2];
  g.width = call.sizes[3];
  g.out_channels = spec_.out_channels();
  g.kernel_h = spec_.weight.size(2);
  g.kernel_w = spec_.weight.size(3);
  g.stride_h = spec_.stride[0];
  g.stride_w = spec_.stride[1];
  g.pad_h = spec_.padding[0];
  g.pad_w = spec_.padding[1];
  g.dilation_h = spec_.dilation[0];
  g.dilation_w = spec_.dilation[1];
  const int64_t bytes = std::max(g.padded_image_bytes(), g.height * g.width * g.channels);
  return g.supported() && bytes < std::numeric_limits<int32_t>::max();
}

const VnniConv& ConvCore::packed(const ConvGeometry& geometry) const {
  std::call_once(packed_once_,
                 [&] { packed_ = std::make_unique<VnniConv>(spec_.weight.data_ptr<int8_t>(), geometry); });
  return *packed_;
}

std::shared_ptr<const ConvCore::Plan> ConvCore::make_plan(const ConvCall& call) const {
  auto plan = std::make_shared<Plan>();
  plan->call = call;
  plan->requantize = make_requantize(spec_, sums_, call, !spec_.transposed);
  if (!plan->requantize.safe) return plan;
  if (geometry_for(call, plan->geometry)) {
    plan->offsets = offset_table(plan->geometry);
  } else {
    plan->dnnl = std::make_unique<DnnlConv>(spec_, call.input(), output_sizes(call.input()), plan->requantize,
                                            static_cast<int32_t>(call.in_zero_point), call.floats);
  }
  return plan;
}

std::shared_ptr<const ConvCore::Plan> ConvCore::plan_for(const ConvCall& call) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& plan : plans_) {
    if (plan->call == call) return plan;
  }
  auto plan = make_plan(call);
  if (plans_.size() == kMostPlans) plans_.erase(plans_.begin());
  plans_.push_back(plan);
  return plan;
}

bool ConvCore::run(const ConvCall& call, const uint8_t* source, void* result, const Residual* residual) const {
  const auto plan = plan_for(call);
  if (plan->dnnl != nullptr && residual == nullptr) {
    plan->dnnl->run(source, result);
    return true;
  }
  if (plan->offsets == nullptr) return false;
  const Requantize& r = plan->requantize;
  Epilogue e;
  e.multiplier = r.multiplier.data();
  e.bias = r.bias.data();
  e.zero_point = r.zero_point;
  e.low = r.low;
  e.high = r.high;
  e.float_low = r.float_low;
  e.float_high = r.float_high;
  e.pixel_stride = spec_.out_channels();
  e.floats = call.floats ? static_cast<float*>(result) : nullptr;
  e.codes = call.floats ? nullptr : static_cast<uint8_t*>(result);
  if (residual != nullptr) {
    const double multiplier = residual->scale / call.out_scale;
    if (std::max(multiplier, call.middle ? call.middle_scale / call.out_scale : 0.0) * 255 > 1e9) return false;
    e.other = residual->codes;
    e.other_multiplier = static_cast<float>(multiplier);
    e.other_zero_point = static_cast<float>(residual->zero_point);
    e.middle = call.middle;
    e.middle_low = static_cast<float>(-call.middle_zero_point);
    e.middle_high = static_cast<float>(255 - call.middle_zero_point);
    e.middle_multiplier = static_cast<float>(call.middle_scale / call.out_scale);
  }
  packed(plan->geometry).run(plan->geometry, *plan->offsets, source, static_cast<uint8_t>(call.in_zero_point), e);
  return true;
}

}  // namespace tsquant::kernels
