#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tsquant/openvino_quantizer.h"

namespace tsquant {

/// A quantizer that has a name. Adding one is adding a row to registry.cpp.
struct QuantizerRow {
  std::string name;                  ///< as in the report
  std::vector<std::string> options;  ///< those of OpenVINOQuantizerOptions that it has ("outer.inner"); "*": all
  std::unique_ptr<Quantizer> (*make)(const OpenVINOQuantizerOptions& options);
};

const std::vector<QuantizerRow>& named_quantizers();

}  // namespace tsquant
