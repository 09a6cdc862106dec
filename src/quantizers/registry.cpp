#include "quantizers/registry.h"

#include "tsquant/fx/fx_quantizer.h"
#include "tsquant/x86_inductor_quantizer.h"
#include "tsquant/xnnpack_quantizer.h"

namespace tsquant {

namespace {

std::unique_ptr<Quantizer> make_openvino(const OpenVINOQuantizerOptions& options) {
  return std::make_unique<OpenVINOQuantizer>(options);
}

std::unique_ptr<Quantizer> make_x86_inductor(const OpenVINOQuantizerOptions&) {
  auto quantizer = std::make_unique<X86InductorQuantizer>();
  quantizer->set_global(get_default_x86_inductor_quantization_config());
  return quantizer;
}

std::unique_ptr<Quantizer> make_xnnpack(const OpenVINOQuantizerOptions& options) {
  auto quantizer = std::make_unique<XNNPACKQuantizer>();
  const bool per_channel = options.weights_quantization_params.per_channel.value_or(false);
  quantizer->set_global(get_symmetric_quantization_config(per_channel));
  return quantizer;
}

std::unique_ptr<Quantizer> make_fx(const OpenVINOQuantizerOptions&) { return std::make_unique<fx::FxQuantizer>(); }

}  // namespace

const std::vector<QuantizerRow>& named_quantizers() {
  static const std::vector<QuantizerRow> rows{
      {"openvino", {"*"}, make_openvino},
      {"x86_inductor", {}, make_x86_inductor},
      {"xnnpack", {"weights_quantization_params.per_channel"}, make_xnnpack},
      {"fx", {}, make_fx},
  };
  return rows;
}

}  // namespace tsquant
