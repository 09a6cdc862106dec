#include "tsquant/fx/qconfig_mapping.h"

// torch/ao/quantization/qconfig_mapping.py, _get_default_qconfig_mapping.
namespace tsquant::fx {

namespace {

ObserverConfig float_observer() {
  ObserverConfig config;
  config.type = ObserverType::kPlaceholder;
  config.dtype = c10::kFloat;
  return config;
}

QConfigMapping default_mapping(const QConfig& qconfig, const std::string& backend, bool is_qat) {
  const ObserverConfig per_tensor_weight = is_qat ? default_qat_qconfig().weight : default_qconfig().weight;
  const bool supports_transposed = backend == "x86" || backend == "fbgemm";
  const QConfig transposed{qconfig.activation, supports_transposed ? per_tensor_weight : qconfig.weight};
  const QConfig float_weight{qconfig.activation, float_observer()};
  QConfigMapping mapping;
  mapping.set_global(qconfig).set_object_type("reshape", default_reuse_input_qconfig());
  // Equal entries for the types of a fused pattern: who overrides one of them must override the others too.
  for (const char* type : {"conv1d", "conv2d", "conv3d", "linear", "relu", "torch.nn.BatchNorm1d",
                           "torch.nn.BatchNorm2d", "torch.nn.BatchNorm3d"}) {
    mapping.set_object_type(type, qconfig);
  }
  for (const char* type : {"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}) {
    mapping.set_object_type(type, transposed);
  }
  mapping.set_object_type("layer_norm", float_weight);
  const auto set_fixed = [&](const char* type, ObserverConfig fixed) {
    if (is_qat) fixed.fake_quantize = FakeQuantizeType::kFixedQParams;
    mapping.set_object_type(type, QConfig{fixed, per_tensor_weight});
  };
  for (const char* type : {"hardsigmoid", "sigmoid", "torch.nn.Softmax"}) {
    set_fixed(type, default_fixed_qparams_range_0to1_observer());
  }
  set_fixed("tanh", default_fixed_qparams_range_neg1to1_observer());
  return mapping;
}

}  // namespace

QConfigMapping get_default_qconfig_mapping(const std::string& backend, int64_t version) {
  return default_mapping(get_default_qconfig(backend, version), backend, /*is_qat=*/false);
}

QConfigMapping get_default_qat_qconfig_mapping(const std::string& backend, int64_t version) {
  return default_mapping(get_default_qat_qconfig(backend, version), backend, /*is_qat=*/true);
}

}  // namespace tsquant::fx
