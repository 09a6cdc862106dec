#include "graph/fx_names.h"

#include <cctype>

namespace tsquant {

namespace {

/// Keywords and builtins of Python that are also names of tensor functions, arguments or control flow.
bool is_python_name(const std::string& name) {
  static const std::unordered_set<std::string> names = {
      "abs",      "all",    "and",    "any",     "as",     "ascii",   "assert",   "async",     "await",     "bin",
      "bool",     "break",  "bytes",  "chr",     "class",  "compile", "complex",  "continue",  "copyright", "credits",
      "def",      "del",    "dict",   "dir",     "divmod", "elif",    "else",     "enumerate", "eval",      "except",
      "exec",     "exit",   "filter", "finally", "float",  "for",     "format",   "from",      "global",    "globals",
      "hash",     "help",   "hex",    "id",      "if",     "import",  "in",       "input",     "int",       "is",
      "iter",     "lambda", "len",    "license", "list",   "locals",  "map",      "max",       "min",       "next",
      "nonlocal", "not",    "object", "oct",     "open",   "or",      "ord",      "pass",      "pow",       "print",
      "property", "quit",   "raise",  "range",   "repr",   "return",  "reversed", "round",     "set",       "setattr",
      "slice",    "sorted", "str",    "sum",     "super",  "try",     "tuple",    "type",      "vars",      "while",
      "with",     "yield",  "zip",    "inf",     "nan",    "torch",   "device",   "NoneType"};
  return names.count(name) != 0;
}

}  // namespace

std::string FxNames::take(const std::string& wish) {
  std::string base = wish;
  int64_t number = 0;
  const auto cut = wish.rfind('_');
  if (cut != std::string::npos && cut > 0 && cut + 1 < wish.size() && wish.size() - cut < 10 &&
      wish.find_first_not_of("0123456789", cut + 1) == std::string::npos) {
    base = wish.substr(0, cut);
    number = std::stoll(wish.substr(cut + 1));
  }
  std::string name = wish;
  int64_t& next = next_[base];
  if (used_.count(name) || is_python_name(name)) {
    // Numbers below `next` were found taken before.
    for (number = std::max(number + 1, next);; ++number) {
      name = base + "_" + std::to_string(number);
      if (!used_.count(name)) break;
    }
    next = number + 1;
  }
  used_.insert(name);
  return name;
}

std::string fx_wish(const std::string& name) {
  std::string wish = name;
  if (wish.size() > 4 && wish.compare(0, 2, "__") == 0 && wish.compare(wish.size() - 2, 2, "__") == 0) {
    wish = wish.substr(2, wish.size() - 4);
  }
  for (char& c : wish) {
    const auto u = static_cast<unsigned char>(c);
    c = std::isalnum(u) || c == '_' ? static_cast<char>(std::tolower(u)) : '_';
  }
  if (!wish.empty() && std::isdigit(static_cast<unsigned char>(wish[0]))) wish = "_" + wish;
  return wish;
}

}  // namespace tsquant
