#include "base/error_text.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace tsquant {

namespace {

/// `x.isInt() INTERNAL ASSERT FAILED at "file":12, please report a bug to PyTorch. Expected ...`: the reason behind it,
/// or else the condition.
std::string without_assert(const std::string& text) {
  const size_t mark = text.find(" INTERNAL ASSERT FAILED");
  if (mark == std::string::npos) return text;
  const std::string request = "please report a bug to PyTorch.";
  const size_t found = text.find(request, mark);
  const size_t reason = found == std::string::npos ? found : text.find_first_not_of(' ', found + request.size());
  return reason == std::string::npos ? "a check failed: " + text.substr(0, mark) : text.substr(reason);
}

/// `[enforce fail at file.cc:12] . reason`
std::string without_place(const std::string& text) {
  const size_t end = text.find("] ");
  if (text.compare(0, 13, "[enforce fail") != 0 || end == std::string::npos) return text;
  const size_t reason = text.find_first_not_of(". ", end + 2);
  return reason == std::string::npos ? "a check failed" : text.substr(reason);
}

/// `reason (Could this error message be improved?  If so, please report an enhancement request to PyTorch.)`
std::string without_request(const std::string& text) {
  const size_t mark = text.find("(Could this error message be improved?");
  return mark == std::string::npos ? text : text.substr(0, text.find_last_not_of(' ', mark - 1) + 1);
}

}  // namespace

std::string short_message(const std::exception& error) {
  const auto* from_libtorch = dynamic_cast<const c10::Error*>(&error);
  const std::string text = from_libtorch != nullptr ? from_libtorch->what_without_backtrace() : error.what();
  const size_t begin = std::min(text.find_first_not_of(" \n"), text.size());
  const std::string line = text.substr(begin, text.find('\n', begin) - begin);
  return without_place(without_assert(without_request(line)));
}

std::string operator_message(const std::exception& error) {
  const std::string text = error.what();
  const auto at = text.rfind("RuntimeError: ");
  std::string message = at == std::string::npos ? text : text.substr(at + 14);
  const auto trace = message.find("\nException raised from");
  if (trace != std::string::npos) message.resize(trace);
  while (!message.empty() && (message.back() == '\n' || message.back() == ' ')) message.pop_back();
  return message;
}

}  // namespace tsquant
