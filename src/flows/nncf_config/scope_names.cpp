#include "flows/nncf_config/scope_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <sstream>
#include <vector>

namespace tsquant {

namespace {

/// Python's names of operators as LibTorch has them.
std::string function_of(const std::string& method) {
  static const std::map<std::string, std::string> functions{
      {"__add__", "add"},   {"__iadd__", "add_"}, {"__radd__", "add"},    {"__sub__", "sub"},
      {"__isub__", "sub_"}, {"__mul__", "mul"},   {"__imul__", "mul_"},   {"__rmul__", "mul"},
      {"__div__", "div"},   {"__idiv__", "div_"}, {"__truediv__", "div"}, {"__matmul__", "matmul"}};
  const auto found = functions.find(method);
  return found == functions.end() ? method : found->second;
}

bool is_identifier(const std::string& text) {
  if (text.empty() || (text[0] >= '0' && text[0] <= '9')) return false;
  const auto is_part = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; };
  return std::all_of(text.begin(), text.end(), is_part);
}

/// "layer1" of "Sequential[layer1]"; empty for other text.
std::string field_of(const std::string& module) {
  const size_t bracket = module.find('[');
  if (bracket == std::string::npos || module.back() != ']' || !is_identifier(module.substr(0, bracket))) return "";
  return module.substr(bracket + 1, module.size() - bracket - 2);
}

/// "conv2d/0" of "conv2d_0"; empty for other text.
std::string operator_of(const std::string& call) {
  const size_t digits = call.find_last_not_of("0123456789") + 1;
  if (digits < 2 || digits == call.size() || call[digits - 1] != '_') return "";
  const std::string method = call.substr(0, digits - 1);
  return is_identifier(method) ? function_of(method) + "/" + call.substr(digits) : "";
}

}  // namespace

std::string stable_name(const std::string& scope) {
  std::vector<std::string> steps;
  std::stringstream text(scope);
  for (std::string step; std::getline(text, step, '/');) steps.push_back(step);
  if (steps.size() < 2 || !is_identifier(steps.front())) return scope;
  std::string name;
  for (size_t i = 1; i + 1 < steps.size(); ++i) {
    const std::string field = field_of(steps[i]);
    if (field.empty()) return scope;
    name += field + "/";
  }
  const std::string last = operator_of(steps.back());
  return last.empty() ? scope : name + last;
}

std::vector<std::string> list_of_scopes(const nlohmann::json& scopes) {
  if (scopes.is_string()) return {scopes.get<std::string>()};
  return scopes.get<std::vector<std::string>>();
}

void add_scopes(const nlohmann::json& scopes, IgnoredScope& ignored) {
  const std::string prefix = "{re}";
  for (const auto& scope : list_of_scopes(scopes)) {
    if (scope.compare(0, prefix.size(), prefix) == 0) {
      ignored.patterns.push_back(fmt::format(".*(?:{})", scope.substr(prefix.size())));
    } else {
      ignored.names.push_back(stable_name(scope));
    }
  }
}

}  // namespace tsquant
