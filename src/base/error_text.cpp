#include "base/error_text.h"

#include <c10/util/Exception.h>

namespace tsquant {

std::string short_message(const std::exception& error) {
  const auto* from_libtorch = dynamic_cast<const c10::Error*>(&error);
  const std::string text = from_libtorch != nullptr ? from_libtorch->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

}  // namespace tsquant
