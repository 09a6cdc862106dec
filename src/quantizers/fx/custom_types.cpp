#include "quantizers/fx/custom_types.h"

#include "tsquant/error.h"

namespace tsquant::fx {

namespace {

bool is_code(c10::ScalarType type) { return type == c10::kQInt8 || type == c10::kQUInt8 || type == c10::kQUInt4x2; }

}  // namespace

c10::optional<QuantType> custom_quant_type(const QConfig& qconfig) {
  const auto& activation = qconfig.activation;
  const bool is_half = qconfig.weight.dtype == c10::kHalf;
  if (!is_code(qconfig.weight.dtype) && !is_half) return c10::nullopt;
  if (activation.is_dynamic) return QuantType::kDynamic;
  if (is_half) return c10::nullopt;
  return is_code(activation.dtype) ? QuantType::kStatic : QuantType::kWeightOnly;
}

const char* to_string(QuantType type) {
  switch (type) {
    case QuantType::kStatic:
      return "static";
    case QuantType::kDynamic:
      return "dynamic";
    case QuantType::kWeightOnly:
      return "weight_only";
  }
  return "";
}

QuantType quant_type_from_string(const std::string& word) {
  for (const auto type : {QuantType::kStatic, QuantType::kDynamic, QuantType::kWeightOnly}) {
    if (word == to_string(type)) return type;
  }
  throw Error(ErrorCode::kInvalidArgument, "there is no type of quantization \"" + word + "\"", "custom module",
              "static, dynamic and weight_only are known");
}

}  // namespace tsquant::fx
