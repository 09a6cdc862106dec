#include "io/code_text.h"

#include <torch/csrc/jit/runtime/operator.h>
#include <torch/custom_class.h>

#include <algorithm>
#include <iterator>

namespace tsquant {

namespace {

constexpr size_t kDeepestBrackets = 300, kWidestIndent = 1000, kLongestShownName = 100;

bool is_letter(char c) { return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_word(char c) { return is_letter(c) || (c >= '0' && c <= '9'); }
bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/// Reads names, dots and brackets from a place in a text.
class NameScanner {
 public:
  NameScanner(std::string_view text, size_t at) : text_(text), at_(at) {}

  /// An identifier; "" when there is none.
  std::string_view name() {
    const size_t begin = at_;
    if (at_ < text_.size() && is_letter(text_[at_])) {
      while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    }
    return text_.substr(begin, at_ - begin);
  }

  bool skip(char c) {
    const bool here = at_ < text_.size() && text_[at_] == c;
    if (here) ++at_;
    return here;
  }

  void skip_spaces() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }

 private:
  std::string_view text_;
  size_t at_;
};

std::string shown(std::string_view name) {
  return name.size() <= kLongestShownName ? std::string(name) : std::string(name.substr(0, kLongestShownName)) + "...";
}

/// `ops.ns.name(`
void add_undefined_operator(std::string_view code, size_t at, std::set<std::string>& missing) {
  NameScanner scan(code, at);
  const std::string_view ns = scan.name();
  if (ns.empty() || ns == "prim" || ns == "aten" || !scan.skip('.')) return;
  const std::string_view name = scan.name();
  scan.skip_spaces();
  if (name.empty() || !scan.skip('(')) return;
  const auto symbol = c10::Symbol::fromQualString(std::string(ns) + "::" + std::string(name));
  if (torch::jit::getAllOperatorsFor(symbol).empty()) missing.insert(shown(ns) + "::" + shown(name));
}

/// `__torch__.torch.classes.ns.name`
void add_undefined_class(std::string_view code, size_t at, size_t prefix, std::set<std::string>& missing) {
  NameScanner scan(code, at + prefix);
  const std::string_view ns = scan.name();
  if (ns.empty() || !scan.skip('.')) return;
  const std::string_view name = scan.name();
  if (name.empty()) return;
  const std::string whole(code.substr(at, prefix + ns.size() + 1 + name.size()));
  if (!torch::getCustomClass(whole)) missing.insert("torch.classes." + shown(ns) + "." + shown(name));
}

bool begins_with(std::string_view text, std::string_view begin) { return text.substr(0, begin.size()) == begin; }

/// `name = value` in the body of a class, whose names of this form LibTorch knows; others have a type (`name : T = v`).
bool is_untyped_constant(std::string_view line) {
  static constexpr std::string_view kKnown[] = {"  __parameters__ ", "  __buffers__ ", "  __annotations__",
                                                "  __forward_hooks__ ", "  __forward_pre_hooks__ "};
  if (!begins_with(line, "  ") || line.size() < 3 || !is_letter(line[2]) || begins_with(line, "  def ")) return false;
  const size_t equals = line.find('=');
  if (equals == std::string_view::npos || line.substr(0, equals).find(':') != std::string_view::npos) return false;
  return std::none_of(std::begin(kKnown), std::end(kKnown), [&](auto known) { return begins_with(line, known); });
}

/// Past the end of a string, a comment or, for other characters, the next one.
size_t skip_token(std::string_view code, size_t at) {
  const char quote = code[at];
  if (quote == '#') return std::min(code.find('\n', at), code.size());
  if (quote != '"' && quote != '\'') return at + 1;
  for (++at; at < code.size() && code[at] != quote && code[at] != '\n'; ++at) {
    if (code[at] == '\\') ++at;
  }
  return std::min(at + 1, code.size());
}

}  // namespace

std::set<std::string> undefined_names(std::string_view code) {
  constexpr std::string_view kOperator = "ops.", kClass = "__torch__.torch.classes.";
  std::set<std::string> missing;
  for (size_t at = code.find(kOperator); at != std::string_view::npos; at = code.find(kOperator, at + 1)) {
    if (at == 0 || !is_word(code[at - 1])) add_undefined_operator(code, at + kOperator.size(), missing);
  }
  for (size_t at = code.find(kClass); at != std::string_view::npos; at = code.find(kClass, at + 1)) {
    add_undefined_class(code, at, kClass.size(), missing);
  }
  return missing;
}

bool is_nested_too_deeply(std::string_view code) {
  size_t depth = 0, indent = 0;
  bool at_line_begin = true;
  for (size_t at = 0; at < code.size(); at = skip_token(code, at)) {
    const char c = code[at];
    if (c == '\n') {
      at_line_begin = true;
      indent = 0;
      continue;
    }
    at_line_begin = at_line_begin && (c == ' ' || c == '\t');
    if (at_line_begin && ++indent > kWidestIndent) return true;
    if ((c == '(' || c == '[' || c == '{') && ++depth > kDeepestBrackets) return true;
    if ((c == ')' || c == ']' || c == '}') && depth > 0) --depth;
  }
  return false;
}

bool has_untyped_constant(std::string_view code) {
  bool in_class = false;
  for (size_t at = 0; at < code.size();) {
    const size_t end = std::min(code.find('\n', at), code.size());
    const std::string_view line = code.substr(at, end - at);
    const bool other_kind =
        line.find("(Enum)") != std::string_view::npos || line.find("(NamedTuple)") != std::string_view::npos;
    if (!line.empty() && line[0] != ' ') in_class = begins_with(line, "class ") && !other_kind;
    if (in_class && is_untyped_constant(line)) return true;
    at = end + 1;
  }
  return false;
}

bool enum_may_be(std::string_view code, std::string_view name, const PickleNode& value) {
  const std::string head = "class " + std::string(name) + "(Enum):\n";
  size_t at = code.find(head);
  if (at == std::string_view::npos || (value.kind != PickleKind::kInt && value.kind != PickleKind::kString))
    return true;
  const std::string wanted =
      value.kind == PickleKind::kInt ? " = " + std::to_string(value.number) : " = \"" + std::string(value.text) + "\"";
  for (at += head.size(); code.substr(at, 2) == "  ";) {
    const size_t end = std::min(code.find('\n', at), code.size());
    const std::string_view line = code.substr(at, end - at);
    // Text may be written with escapes: it is left to LibTorch.
    if (value.kind == PickleKind::kString && line.find('\\') != std::string_view::npos) return true;
    if (line.size() > wanted.size() && line.substr(line.size() - wanted.size()) == wanted) return true;
    at = std::min(end + 1, code.size());
  }
  return false;
}

}  // namespace tsquant
