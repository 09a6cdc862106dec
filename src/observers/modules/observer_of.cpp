#include "observers/modules/observer_of.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "observers/histogram_observer.h"
#include "observers/modules/config_rules.h"
#include "observers/modules/statistics.h"
#include "observers/modules/type_names.h"
#include "observers/range_estimators.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

[[noreturn]] void not_together(const ObserverConfig& config, const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message, class_name(config.type),
              "give the spec that the module was made for");
}

void check_pair(const ObserverConfig& config, const QuantizationSpec& spec, PointKind kind) {
  const ObserverConfig wanted = observer_config_of(spec, kind);
  if (wanted.type != config.type) {
    not_together(config, fmt::format("the spec asks for a {}", class_name(wanted.type)));
  }
  if (spec.per_channel && spec.ch_axis != config.ch_axis) {
    not_together(config, fmt::format("channels are observed along axis {} and quantized along {}", config.ch_axis,
                                     spec.ch_axis));
  }
}

/// A tensor with these extrema, in each slice along `axis`: a pair at the end of [1, ..., channels, 2].
at::Tensor tensor_between(const Range& range, c10::optional<int64_t> axis) {
  if (!axis) return at::cat({range.min, range.max});
  std::vector<int64_t> shape(static_cast<size_t>(*axis) + 2, 1);
  shape[static_cast<size_t>(*axis)] = range.min.numel();
  shape.back() = 2;
  return at::stack({range.min, range.max}, 1).reshape(shape);
}

/// Of the histogram as it was counted; another rule or number of bins is not HistogramObserver's, of which only the
/// range can be told.
std::unique_ptr<Observer> histogram_observer(const torch::jit::Module& module, const ObserverConfig& config,
                                             const Range& range) {
  auto result = std::make_unique<HistogramObserver>();
  const auto counts = module.attr("histogram").toTensor().detach().to(at::kDouble).contiguous();
  const bool same = config.histogram_rule == HistogramRule::kTorch2 && counts.numel() == ObserverConfig().bins;
  if (!same) {
    auto found = std::make_unique<RangeEstimatorObserver>(RangeEstimatorParameters::minmax(), c10::nullopt, false);
    found->observe(tensor_between(range, c10::nullopt));
    return found;
  }
  auto state = result->state();
  state[0] = at::tensor({int64_t{1}, int64_t{0}, int64_t{0}});
  state[1] = counts;
  const auto limit = [&](const char* name) {
    return module.attr(name).toTensor().detach().to(at::kFloat).reshape({1});
  };
  state[3] = at::cat({limit("min_val"), limit("max_val")});
  result->set_state(state);
  return result;
}

/// What training made of scale and zero_point, as the range that they stand for.
Range learned_range(const torch::jit::Module& module, const ObserverConfig& config) {
  const auto q = calculate_qparams(module);
  const CodeRange codes = code_range(config);
  if (is_symmetric(config.qscheme)) {
    const auto magnitude = q.scale * (static_cast<double>(codes.max - codes.min) / 2);
    return {-magnitude, magnitude};
  }
  return {(codes.min - q.zero_point) * q.scale, (codes.max - q.zero_point) * q.scale};
}

}  // namespace

void observe_samples(const torch::jit::Module& module, Observer& observer) {
  const auto low = module.attr("sample_min").toTensor().detach(), high = module.attr("sample_max").toTensor().detach();
  for (int64_t i = 0; i < low.numel(); ++i) observer.observe(at::stack({low[i], high[i]}));
  const auto unusable = module.attr("unusable").toTensor();
  auto state = observer.state();
  state[0] = state[0] + at::cat({at::zeros({1}, at::kLong), unusable});
  observer.set_state(state);
}

std::unique_ptr<Observer> observer_of(const torch::jit::Module& module, const QuantizationSpec& spec, PointKind kind) {
  const ObserverConfig config = observer_config_of(module);
  check_pair(config, spec, kind);
  const at::NoGradGuard no_grad;
  const auto observer = inner_observer(module);
  if (config.type == ObserverType::kSampleExtrema) {
    // Only unusable values are data, too: the range then says so.
    const bool seen =
        observer.attr("sample_min").toTensor().numel() > 0 || observer.attr("unusable").toTensor().any().item<bool>();
    if (!seen) return nullptr;
    auto result = make_observer(spec, kind);
    observe_samples(observer, *result);
    return result;
  }
  if (!has_min_max(config.type)) {
    if (config.type == ObserverType::kFixedQParams) return nullptr;
    not_together(config, "this observer keeps no statistics");
  }
  Range range = observed_range(observer, config);
  if (!range.min.defined()) return nullptr;
  if (config.fake_quantize == FakeQuantizeType::kLearnable) range = learned_range(module, config);
  if (!(at::isfinite(range.min) & at::isfinite(range.max)).all().item<bool>()) {
    throw Error(ErrorCode::kCalibration, "infinite values were observed", class_name(config.type),
                "check the calibration data");
  }
  if (config.type == ObserverType::kHistogram) return histogram_observer(observer, config, range);
  auto result = make_observer(spec, kind);
  result->observe(tensor_between(range, spec.per_channel ? c10::make_optional(spec.ch_axis) : c10::nullopt));
  return result;
}

}  // namespace tsquant
