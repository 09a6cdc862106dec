#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tsquant {

/// One section of "compression".
struct ConfigSection {
  std::string algorithm;
  std::vector<std::string> steps;  ///< {"compression"} or {"compression", "1"}
  std::string path;                ///< "compression" or "compression[1]"
  const nlohmann::json* content = nullptr;
};

/// The sections of a valid document, which must outlive them.
std::vector<ConfigSection> sections_of(const nlohmann::json& document);

/// The one section of an algorithm. @throws Error kInvalidArgument when there is none or there are several
ConfigSection section_for(const nlohmann::json& document, const std::string& algorithm, const std::string& place);

/// The one section of quantization, by either of its names. @throws Error kInvalidArgument as section_for
ConfigSection quantization_section(const nlohmann::json& document, const std::string& place);

}  // namespace tsquant
