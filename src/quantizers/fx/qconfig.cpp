#include "tsquant/fx/qconfig.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "tsquant/error.h"

// The values are those of torch/ao/quantization/{observer,fake_quantize,qconfig}.py.
namespace tsquant::fx {

namespace {

const double kXnnpackEps = std::exp2(-12);

ObserverConfig activation_observer(ObserverType type, bool reduce_range) {
  ObserverConfig config;
  config.type = type;
  config.reduce_range = reduce_range;
  return config;
}

ObserverConfig weight_observer(bool per_channel, bool moving_average = false) {
  ObserverConfig config;
  config.type = !per_channel     ? (moving_average ? ObserverType::kMovingAverageMinMax : ObserverType::kMinMax)
                : moving_average ? ObserverType::kMovingAveragePerChannelMinMax
                                 : ObserverType::kPerChannelMinMax;
  config.dtype = c10::kQInt8;
  config.qscheme = per_channel ? c10::kPerChannelSymmetric : c10::kPerTensorSymmetric;
  return config;
}

ObserverConfig fake_quantized(ObserverConfig config, FakeQuantizeType type = FakeQuantizeType::kFakeQuantize) {
  config.fake_quantize = type;
  return config;
}

/// torch.ao's default_observer: MinMax with the codes 0..127.
ObserverConfig default_observer() {
  ObserverConfig config = activation_observer(ObserverType::kMinMax, /*reduce_range=*/false);
  config.quant_min = 0;
  config.quant_max = 127;
  return config;
}

ObserverConfig placeholder(c10::ScalarType dtype, bool is_dynamic = false) {
  ObserverConfig config;
  config.type = ObserverType::kPlaceholder;
  config.dtype = dtype;
  config.is_dynamic = is_dynamic;
  return config;
}

ObserverConfig float_qparams_observer(c10::ScalarType dtype) {
  ObserverConfig config;
  config.type = ObserverType::kPerChannelMinMax;
  config.dtype = dtype;
  config.qscheme = c10::kPerChannelAffineFloatQParams;
  return config;
}

ObserverConfig float_qparams_fake_quantize(c10::ScalarType dtype) {
  ObserverConfig config = fake_quantized(float_qparams_observer(dtype));
  config.type = ObserverType::kMovingAveragePerChannelMinMax;
  config.averaging_constant = 1;
  return config;
}

/// Codes and smallest scale that XNNPACK's symmetric operators take.
ObserverConfig for_xnnpack(ObserverConfig config, int64_t quant_min) {
  config.dtype = c10::kQInt8;
  config.eps = kXnnpackEps;
  config.quant_min = quant_min;
  config.quant_max = 127;
  return config;
}

QConfig xnnpack_qconfig(bool per_channel) {
  return {for_xnnpack(activation_observer(ObserverType::kHistogram, false), -128),
          for_xnnpack(weight_observer(per_channel), -127)};
}

QConfig xnnpack_qat_qconfig(bool per_channel) {
  constexpr auto kFused = FakeQuantizeType::kFusedMovingAvgObs;
  return {fake_quantized(for_xnnpack(activation_observer(ObserverType::kMovingAverageMinMax, false), -128), kFused),
          fake_quantized(for_xnnpack(weight_observer(per_channel, /*moving_average=*/true), -127), kFused)};
}

ObserverConfig fixed_observer(double scale, int64_t zero_point) {
  ObserverConfig config;
  config.type = ObserverType::kFixedQParams;
  config.quant_min = 0;
  config.quant_max = 255;
  config.scale = scale;
  config.zero_point = zero_point;
  return config;
}

struct BackendRow {
  std::string name;
  bool reduce_range, per_channel;
};

const BackendRow& backend_row(const std::string& backend, const char* function) {
  static const std::vector<BackendRow> rows{
      {"x86", true, true}, {"fbgemm", true, true}, {"onednn", false, true}, {"qnnpack", false, false}};
  std::vector<std::string> names;
  for (const auto& row : rows) {
    if (row.name == backend) return row;
    names.push_back(row.name);
  }
  throw Error(ErrorCode::kInvalidArgument, fmt::format("\"{}\" is no backend with a default qconfig", backend),
              function, fmt::format("use one of {}", fmt::join(names, ", ")));
}

[[noreturn]] void refuse_version(int64_t version, const char* function, const char* advice) {
  throw Error(ErrorCode::kInvalidArgument, fmt::format("version {} does not exist", version), function, advice);
}

}  // namespace

bool operator==(const QConfig& a, const QConfig& b) { return a.activation == b.activation && a.weight == b.weight; }

QConfig get_default_qconfig(const std::string& backend, int64_t version) {
  if (version != 0) refuse_version(version, "get_default_qconfig", "use 0");
  const BackendRow& row = backend_row(backend, "get_default_qconfig");
  return {activation_observer(ObserverType::kHistogram, row.reduce_range), weight_observer(row.per_channel)};
}

QConfig get_default_qat_qconfig(const std::string& backend, int64_t version) {
  if (version != 0 && version != 1) refuse_version(version, "get_default_qat_qconfig", "use 0 or 1");
  const BackendRow& row = backend_row(backend, "get_default_qat_qconfig");
  const auto type = version == 0 ? FakeQuantizeType::kFakeQuantize : FakeQuantizeType::kFusedMovingAvgObs;
  return {fake_quantized(activation_observer(ObserverType::kMovingAverageMinMax, row.reduce_range), type),
          fake_quantized(weight_observer(row.per_channel, /*moving_average=*/true), type)};
}

QConfig default_qconfig() { return {default_observer(), weight_observer(false)}; }
QConfig default_per_channel_qconfig() { return {default_observer(), weight_observer(true)}; }

QConfig default_debug_qconfig() {
  return {activation_observer(ObserverType::kRecording, false), weight_observer(false)};
}

QConfig default_dynamic_qconfig() { return {placeholder(c10::kQUInt8, true), weight_observer(false)}; }
QConfig per_channel_dynamic_qconfig() { return {placeholder(c10::kQUInt8, true), weight_observer(true)}; }
QConfig float16_dynamic_qconfig() { return {placeholder(c10::kHalf, true), placeholder(c10::kHalf)}; }
QConfig float16_static_qconfig() { return {placeholder(c10::kHalf), placeholder(c10::kHalf)}; }

QConfig default_reuse_input_qconfig() {
  ObserverConfig weight;
  weight.type = ObserverType::kNoop;
  weight.dtype = c10::kHalf;
  return {activation_observer(ObserverType::kReuseInput, false), weight};
}

QConfig float_qparams_weight_only_qconfig() { return {placeholder(c10::kFloat), float_qparams_observer(c10::kQUInt8)}; }

QConfig float_qparams_weight_only_qconfig_4bit() {
  return {placeholder(c10::kFloat), float_qparams_observer(c10::kQUInt4x2)};
}

QConfig default_symmetric_qnnpack_qconfig() { return xnnpack_qconfig(false); }
QConfig default_per_channel_symmetric_qnnpack_qconfig() { return xnnpack_qconfig(true); }
QConfig default_symmetric_qnnpack_qat_qconfig() { return xnnpack_qat_qconfig(false); }
QConfig default_per_channel_symmetric_qnnpack_qat_qconfig() { return xnnpack_qat_qconfig(true); }

QConfig default_qat_qconfig() {
  return {fake_quantized(activation_observer(ObserverType::kMovingAverageMinMax, true)),
          fake_quantized(weight_observer(false, true))};
}

QConfig default_qat_qconfig_v2() {
  constexpr auto kFused = FakeQuantizeType::kFusedMovingAvgObs;
  return {fake_quantized(activation_observer(ObserverType::kMovingAverageMinMax, false), kFused),
          fake_quantized(weight_observer(false, true), kFused)};
}

QConfig default_dynamic_qat_qconfig() {
  ObserverConfig activation = fake_quantized(activation_observer(ObserverType::kMovingAverageMinMax, false));
  activation.averaging_constant = 1;
  activation.is_dynamic = true;
  return {activation, fake_quantized(weight_observer(false, true))};
}

QConfig default_weight_only_qconfig() {
  return {placeholder(c10::kFloat), fake_quantized(weight_observer(false, true))};
}

QConfig default_activation_only_qconfig() {
  return {fake_quantized(activation_observer(ObserverType::kMovingAverageMinMax, true)), placeholder(c10::kFloat)};
}

QConfig default_embedding_qat_qconfig() {
  return {placeholder(c10::kFloat), float_qparams_fake_quantize(c10::kQUInt8)};
}

QConfig default_embedding_qat_qconfig_4bit() {
  return {placeholder(c10::kFloat), float_qparams_fake_quantize(c10::kQUInt4x2)};
}

ObserverConfig default_fixed_qparams_range_0to1_observer() { return fixed_observer(1.0 / 256, 0); }
ObserverConfig default_fixed_qparams_range_neg1to1_observer() { return fixed_observer(2.0 / 256, 128); }

}  // namespace tsquant::fx
