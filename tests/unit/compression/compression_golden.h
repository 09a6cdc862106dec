#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "io/named_tensors.h"
#include "support/support.h"
#include "tsquant/quantization_spec.h"

namespace tsquant::testing {

/// Arrays of tests/data/compression/<name>.npz and the cases of <name>.json, made by NNCF 3.2 (commit ef8e1dbd8).
struct CompressionGolden {
  std::map<std::string, at::Tensor> arrays;
  nlohmann::json cases;

  explicit CompressionGolden(const std::string& name) {
    for (const auto& entry : read_numpy_file(data_file("compression/" + name + ".npz"))) {
      arrays[entry.name] = entry.tensor;
    }
    std::ifstream file(data_file("compression/" + name + ".json"));
    cases = nlohmann::json::parse(file);
  }
};

/// A mode of nncf.CompressWeightsMode for a matrix that is summed over `axis`.
inline QuantizationSpec spec_of_mode(const std::string& mode, int64_t group_size, int64_t axis) {
  static const std::map<std::string, Format> kFormats = {
      {"int8_sym", Format::kInt8},   {"int8_asym", Format::kInt8}, {"int4_sym", Format::kInt4},
      {"int4_asym", Format::kInt4},  {"nf4", Format::kNf4},        {"fp4", Format::kFp4},
      {"fp8_e4m3", Format::kF8E4M3}, {"mxfp4", Format::kMxFp4},    {"mxfp8_e4m3", Format::kMxF8E4M3},
      {"nvfp4", Format::kNvFp4},     {"cb4", Format::kCb4},        {"codebook", Format::kCodebook4}};
  QuantizationSpec spec;
  spec.format = kFormats.at(mode);
  if (mode.find("asym") != std::string::npos) spec.mode = QuantizationScheme::kAsymmetric;
  if (group_size > 0) {
    spec.group_size = group_size;
    spec.group_axis = axis;
  } else {
    spec.per_channel = true;
    spec.ch_axis = 1 - axis;
  }
  return spec;
}

}  // namespace tsquant::testing
