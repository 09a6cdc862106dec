#include "cli/value_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

namespace tsquant::cli {

namespace {

template <typename Value>
CLI::Validator value_check(const std::string& expected) {
  const auto check = [expected](std::string& text) {
    Value value{};
    bool converts = false;
    try {
      converts = CLI::detail::lexical_cast(text, value);
    } catch (const std::exception&) {  // some conversions throw where others return false
    }
    return converts ? std::string() : fmt::format("\"{}\" is not {}", text, expected);
  };
  return CLI::Validator(check, "");
}

/// "INT" of "INT:POSITIVE".
std::string value_type(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type.substr(0, type.find(':'));
}

void explain(CLI::Option& option) {
  if (option.get_expected_max() == 0) return;  // a flag
  const std::string type = value_type(option);
  // Before the other checks of an option, whose messages are about numbers of a wrong size.
  if (type == "INT") option.transform(value_check<int64_t>("a whole number, such as 16"));
  if (type == "UINT") option.transform(value_check<uint64_t>("a whole number of 0 or more, such as 16"));
  if (type == "FLOAT") option.transform(value_check<double>("a number, such as 0.5"));
  if (type == "BOOLEAN") option.transform(value_check<bool>("a truth value: write true or false"));
}

}  // namespace

void explain_values(CLI::App& command) {
  for (CLI::Option* option : command.get_options()) explain(*option);
}

CLI::Validator thread_count() {
  const auto check = [](std::string& text) {
    const int64_t processors = std::max(1u, std::thread::hardware_concurrency());
    const int64_t most = std::max<int64_t>(64, 4 * processors);
    int64_t threads = 0;
    if (CLI::detail::lexical_cast(text, threads) && threads >= 1 && threads <= most) return std::string();
    return fmt::format("{} is no number of threads: use 1 to {} (this machine runs {} at a time)", text, most,
                       processors);
  };
  return CLI::Validator(check, "THREADS");
}

}  // namespace tsquant::cli
