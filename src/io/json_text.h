#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace tsquant {

/// Why a text is no JSON, or none that can be worked with.
struct JsonFault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The reason in an exception of nlohmann::json, without the library's number for it in front.
inline std::string json_reason(const std::exception& error) {
  const std::string text = error.what();
  const size_t end = text.find("] ");
  return text.compare(0, 5, "[json") == 0 && end != std::string::npos ? text.substr(end + 2) : text;
}

/// Parses a text whose lists and objects are nested at most as deeply as any of ours: nlohmann::json copies them by
/// recursion. @param Json nlohmann::json or ordered_json @throws JsonFault
template <typename Json>
Json parse_json(const std::string& text, bool ignore_comments = false) {
  constexpr int kDeepest = 200;
  const auto check_depth = [](int depth, typename Json::parse_event_t, Json&) {
    if (depth > kDeepest) throw JsonFault("its lists and objects are nested too deeply");
    return true;
  };
  try {
    return Json::parse(text, check_depth, /*allow_exceptions=*/true, ignore_comments);
  } catch (const nlohmann::json::exception& error) {
    throw JsonFault(json_reason(error));
  }
}

}  // namespace tsquant
