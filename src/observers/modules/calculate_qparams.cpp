#include <ATen/ATen.h>
#include <fmt/format.h>

#include <mutex>

#include "observers/modules/config_rules.h"
#include "observers/modules/module_class.h"
#include "observers/modules/sources.h"
#include "observers/modules/statistics.h"
#include "observers/modules/type_names.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// The formula that fake quantizes in a model compute with: one text, whether a graph or this library runs it.
torch::jit::Module formula() {
  static std::mutex mutex;
  static const auto unit = std::make_shared<torch::jit::CompilationUnit>();
  const std::lock_guard<std::mutex> lock(mutex);
  return Attributes().instance("__torch__.tsquant.QParams", kQParamsSource, unit);
}

ObservedQParams held_parameters(const torch::jit::Module& module, const CodeRange& codes, double eps) {
  const auto scale = module.attr("scale").toTensor().detach().to(at::kFloat).reshape({-1}).clamp_min(eps);
  const auto zero_point = module.attr("zero_point").toTensor().detach().reshape({-1});
  return {scale.clone(), at::round(zero_point.to(at::kDouble)).clamp(codes.min, codes.max).to(at::kLong), true};
}

ObservedQParams parameters_of(const Range& range, const ObserverConfig& config) {
  if (!range.min.defined()) return {at::ones({1}, at::kFloat), at::zeros({1}, at::kLong), false};
  const CodeRange codes = code_range(config);
  auto module = formula();
  const auto result =
      module.get_method("qparams_of")({range.min, range.max, at::full({1}, config.eps, at::kFloat), codes.min,
                                       codes.max, static_cast<int64_t>(config.qscheme), symmetric_zero(config)});
  const auto& pair = result.toTupleRef().elements();
  const bool float_zero = config.qscheme == c10::kPerChannelAffineFloatQParams;
  return {pair[0].toTensor(), pair[1].toTensor().to(float_zero ? at::kFloat : at::kLong), true};
}

}  // namespace

ObservedQParams calculate_qparams(const torch::jit::Module& module) {
  const ObserverConfig config = observer_config_of(module);
  const at::NoGradGuard no_grad;
  if (config.fake_quantize == FakeQuantizeType::kLearnable) {
    auto held = held_parameters(module, code_range(config), config.eps);
    // Parameters that only followed the observer so far say nothing more than it does.
    if (module.attr("static_enabled").toTensor().item<bool>()) {
      held.observed = observed_range(inner_observer(module), config).min.defined();
    }
    return held;
  }
  if (config.type == ObserverType::kFixedQParams) return held_parameters(module, code_range(config), 0);
  if (has_min_max(config.type)) return parameters_of(observed_range(inner_observer(module), config), config);
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{} has no scale and zero point", class_name(config.type)),
              "calculate_qparams",
              config.type == ObserverType::kSampleExtrema ? "ask observer_of for the range" : "use another observer");
}

}  // namespace tsquant
