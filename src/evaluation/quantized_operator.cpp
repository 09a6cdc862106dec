#include "evaluation/quantized_operator.h"

#include <algorithm>
#include <array>

namespace tsquant {

namespace {

constexpr std::array kNamespaces{"tsquant::", "quantized::", "quantized_decomposed::"};
/// LibTorch's own. Overloads of the same work begin with an underscore.
constexpr std::array kNames{"aten::quantize_per_",
                            "aten::dequantize",
                            "aten::quantized_",
                            "aten::fake_quantize_",
                            "aten::_fake_quantize_",
                            "aten::fused_moving_avg_obs_fake_quant",
                            "aten::_fused_moving_avg_obs_fq_helper"};

template <size_t N>
bool begins_with_one_of(const std::string& name, const std::array<const char*, N>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const char* prefix) { return name.rfind(prefix, 0) == 0; });
}

}  // namespace

bool is_quantized_operator(const std::string& name) {
  return begins_with_one_of(name, kNamespaces) || begins_with_one_of(name, kNames);
}

}  // namespace tsquant
