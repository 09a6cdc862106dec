#include <fmt/format.h>

#include "observers/modules/type_names.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

int64_t int_or(const torch::jit::Module& module, const char* name, int64_t otherwise) {
  return module.hasattr(name) ? module.attr(name).toInt() : otherwise;
}
bool bool_or(const torch::jit::Module& module, const char* name, bool otherwise) {
  return module.hasattr(name) ? module.attr(name).toBool() : otherwise;
}
double double_or(const torch::jit::Module& module, const char* name, double otherwise) {
  if (!module.hasattr(name)) return otherwise;
  return module.attr(name).toScalar().toDouble();  // Python's 1 is an integer
}

/// The first value of a float32 or integer buffer. A state dict may have changed it since the module was made; `given`
/// is what it was made with, in double precision, and meant as long as the buffer holds its rounded value.
double buffer_or(const torch::jit::Module& module, const char* name, double given) {
  if (!module.hasattr(name) || !module.attr(name).isTensor()) return given;
  const auto& buffer = module.attr(name).toTensor();
  if (buffer.numel() == 0) return given;
  const auto value = buffer.reshape({-1})[0].item<double>();
  return value == static_cast<double>(static_cast<float>(given)) ? given : value;
}

HistogramRule histogram_rule(const torch::jit::Module& observer) {
  if (observer.hasattr("histogram_rule")) return static_cast<HistogramRule>(observer.attr("histogram_rule").toInt());
  return int_or(observer, "upsample_rate", 16) == 128 ? HistogramRule::kTorch1_13 : HistogramRule::kTorch2;
}

/// torch.ao keeps the halved limits alone: those of a full range are told from them.
void read_code_limits(const torch::jit::Module& observer, ObserverConfig& config) {
  if (!bool_or(observer, "has_customized_qrange", false)) return;
  if (observer.hasattr("given_quant_min")) {
    config.quant_min = observer.attr("given_quant_min").toInt();
    config.quant_max = observer.attr("given_quant_max").toInt();
    return;
  }
  const int64_t low = observer.attr("quant_min").toInt(), high = observer.attr("quant_max").toInt();
  config.quant_min = config.reduce_range ? low * 2 : low;
  config.quant_max = config.reduce_range ? high * 2 + 1 : high;
}

}  // namespace

bool is_observer_module(const torch::jit::Module& module) {
  const bool is_fake_quantize = fake_quantize_type(module) != FakeQuantizeType::kNone;
  return (!is_fake_quantize || module.attr("activation_post_process").isModule()) &&
         observer_type(inner_observer(module)).has_value();
}

ObserverConfig observer_config_of(const torch::jit::Module& module) {
  if (!is_observer_module(module)) {
    const auto name = module.type()->name();
    throw Error(ErrorCode::kInvalidArgument, "this module is neither an observer nor a fake quantize",
                name ? name->qualifiedName() : "", "give what make_observer_module or torch.ao made");
  }
  const torch::jit::Module observer = inner_observer(module);
  ObserverConfig config;
  config.type = *observer_type(observer);
  config.fake_quantize = fake_quantize_type(module);
  config.dtype = static_cast<c10::ScalarType>(int_or(observer, "dtype", static_cast<int64_t>(config.dtype)));
  config.qscheme = static_cast<c10::QScheme>(int_or(observer, "qscheme", static_cast<int64_t>(config.qscheme)));
  config.reduce_range = bool_or(observer, "reduce_range", false);
  read_code_limits(observer, config);
  config.eps = buffer_or(observer, "eps", double_or(observer, "given_eps", config.eps));
  config.averaging_constant = double_or(observer, "averaging_constant", config.averaging_constant);
  config.ch_axis = int_or(observer, "ch_axis", config.ch_axis);
  config.bins = int_or(observer, "bins", config.bins);
  config.histogram_rule = histogram_rule(observer);
  config.scale = buffer_or(observer, "scale", double_or(observer, "given_scale", config.scale));
  config.zero_point = static_cast<int64_t>(
      buffer_or(observer, "zero_point", static_cast<double>(int_or(observer, "given_zero_point", 0))));
  config.is_dynamic = bool_or(observer, "is_dynamic", false);
  config.use_grad_scaling = bool_or(observer, "use_grad_scaling", bool_or(module, "use_grad_scaling", false));
  return config;
}

}  // namespace tsquant
