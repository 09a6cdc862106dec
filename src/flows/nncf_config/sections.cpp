#include "flows/nncf_config/sections.h"

#include <fmt/format.h>

#include "flows/nncf_config/config_schema.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using nlohmann::json;

ConfigSection the_only(const std::vector<ConfigSection>& found, const std::string& algorithm, const json& document,
                       const std::string& place) {
  if (found.size() == 1) return found.front();
  if (!found.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: a second section of {}", found[1].path, found[1].algorithm), place,
                "keep one section per algorithm");
  }
  if (!document.contains("compression")) {
    throw Error(ErrorCode::kInvalidArgument, "the key \"compression\" is missing", place,
                fmt::format("give it a section: {{\"algorithm\": \"{}\"}}", algorithm));
  }
  std::vector<std::string> present;
  for (const auto& section : sections_of(document)) present.push_back(section.algorithm);
  throw Error(ErrorCode::kInvalidArgument, fmt::format("compression: there is no section of {}", algorithm), place,
              present.empty() ? "" : fmt::format("there are sections of {}", fmt::join(present, ", ")));
}

}  // namespace

std::vector<ConfigSection> sections_of(const json& document) {
  const std::string key = "compression";
  if (!document.contains(key)) return {};
  const json& content = document.at(key);
  if (content.is_object()) return {{content.at("algorithm"), {key}, key, &content}};
  std::vector<ConfigSection> sections;
  for (size_t i = 0; i < content.size(); ++i) {
    sections.push_back(
        {content[i].at("algorithm"), {key, std::to_string(i)}, fmt::format("{}[{}]", key, i), &content[i]});
  }
  return sections;
}

ConfigSection section_for(const json& document, const std::string& algorithm, const std::string& place) {
  std::vector<ConfigSection> found;
  for (const auto& section : sections_of(document)) {
    if (section.algorithm == algorithm) found.push_back(section);
  }
  return the_only(found, algorithm, document, place);
}

ConfigSection quantization_section(const json& document, const std::string& place) {
  std::vector<ConfigSection> found;
  for (const auto& section : sections_of(document)) {
    if (nncf_algorithms().at(section.algorithm)) found.push_back(section);
  }
  return the_only(found, "quantization", document, place);
}

}  // namespace tsquant
