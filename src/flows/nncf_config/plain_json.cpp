#include "flows/nncf_config/plain_json.h"

#include <fmt/format.h>

#include <algorithm>

#include "io/json_text.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Blanks [begin, end) except for the ends of lines, which messages count.
void blank_out(std::string& text, size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i) {
    if (text[i] != '\n') text[i] = ' ';
  }
}

/// The position after the string that begins at `begin`.
size_t end_of_string(const std::string& text, size_t begin) {
  for (size_t i = begin + 1; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      return i + 1;
    }
  }
  return text.size();
}

/// The position after the comment that begins at `begin`; `begin` itself when none does. One that does not end is left
/// to the parser, which refuses it.
size_t end_of_comment(const std::string& text, size_t begin) {
  if (text[begin] == '#' || text.compare(begin, 2, "//") == 0) return std::min(text.find('\n', begin), text.size());
  if (text.compare(begin, 2, "/*") != 0) return begin;
  const size_t end = text.find("*/", begin + 2);
  return end == std::string::npos ? begin : end + 2;
}

}  // namespace

std::string plain_json(const std::string& text) {
  std::string plain = text;
  size_t comma = std::string::npos;  // one that only blanks and comments follow so far
  for (size_t i = 0; i < plain.size();) {
    if (const size_t end = end_of_comment(plain, i); end > i) {
      blank_out(plain, i, end);
      i = end;
      continue;
    }
    const char c = plain[i];
    if ((c == ']' || c == '}') && comma != std::string::npos) plain[comma] = ' ';
    if (c == ',') {
      comma = i;
    } else if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
      comma = std::string::npos;
    }
    i = c == '"' ? end_of_string(plain, i) : i + 1;
  }
  return plain;
}

template <typename Json>
Json parse_config(const std::string& text, const std::string& place) {
  try {
    return parse_json<Json>(plain_json(text));
  } catch (const JsonFault& fault) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("this is no JSON that can be used: {}", fault.what()), place);
  }
}

template nlohmann::json parse_config(const std::string& text, const std::string& place);
template nlohmann::ordered_json parse_config(const std::string& text, const std::string& place);

}  // namespace tsquant
