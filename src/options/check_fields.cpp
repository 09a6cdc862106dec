#include "options/check_fields.h"

namespace tsquant {

std::string limits_text(const nlohmann::json& schema) {
  const bool low = schema.contains("minimum"), high = schema.contains("maximum");
  if (low && high) return fmt::format("{} to {}", schema.at("minimum").dump(), schema.at("maximum").dump());
  if (low) return schema.at("minimum").dump() + " or more";
  if (high) return schema.at("maximum").dump() + " or less";
  return schema.contains("exclusiveMinimum") ? "more than " + schema.at("exclusiveMinimum").dump() : "";
}

std::string number_text(const nlohmann::json& value) {
  return value.is_number_float() ? fmt::format("{}", value.get<double>()) : value.dump();
}

bool within_limits(const nlohmann::json& value, const nlohmann::json& schema) {
  if (!value.is_number()) return true;
  const double number = value.get<double>();
  // Written so that NaN is outside.
  if (schema.contains("minimum") && !(number >= schema.at("minimum").get<double>())) return false;
  if (schema.contains("maximum") && !(number <= schema.at("maximum").get<double>())) return false;
  return !schema.contains("exclusiveMinimum") || number > schema.at("exclusiveMinimum").get<double>();
}

}  // namespace tsquant
