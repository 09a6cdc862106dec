#pragma once

#include "tsquant/nncf_config.h"

namespace tsquant {

/// `NNCFConfig::from_text(text, place).quantize_options(batch_size)`, for those who need the options alone.
inline QuantizeOptions quantize_options_from_json(const std::string& text, int64_t batch_size = 1,
                                                  const std::string& place = "configuration") {
  return NNCFConfig::from_text(text, place).quantize_options(batch_size);
}

/// The same from a file. @throws Error kInvalidArgument also when the file cannot be read
inline QuantizeOptions read_quantize_config(const std::string& path, int64_t batch_size = 1) {
  return NNCFConfig::from_json(path).quantize_options(batch_size);
}

}  // namespace tsquant
