#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "io/named_tensors.h"
#include "support/support.h"

namespace tsquant::testing {

/// The part of the goldens that the tests carry, made by Neural Compressor 2.6 (commit 2928d856).
inline std::string carried_goldens() { return data_file("weight_only"); }

/// All of them: beside $TSQUANT_GOLDENS (goldens/nncf), or ../shared/goldens/inc; "" when they are not there.
inline std::string complete_goldens() {
  const char* given = std::getenv("TSQUANT_GOLDENS");
  const auto folder = given ? std::filesystem::path(given).parent_path() / "inc"
                            : std::filesystem::path(TSQUANT_SOURCE_DIR "/../shared/goldens/inc");
  return std::filesystem::exists(folder / "index.json") ? folder.string() : "";
}

inline nlohmann::json read_json(const std::string& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

/// The arrays of the .npz files in a folder, read when they are asked for.
class GoldenArrays {
 public:
  explicit GoldenArrays(std::string folder) : folder_(std::move(folder)) {}

  const at::Tensor& get(const std::string& file, const std::string& name) {
    auto& arrays = files_[file];
    if (arrays.empty()) {
      for (const auto& entry : read_numpy_file(folder_ + "/" + file)) arrays[entry.name] = entry.tensor;
    }
    return arrays.at(name);
  }

 private:
  std::string folder_;
  std::map<std::string, std::map<std::string, at::Tensor>> files_;
};

/// Equal numbers in equal shapes, NaN like NaN.
inline ::testing::AssertionResult equal_numbers(const at::Tensor& actual, const at::Tensor& expected) {
  if (actual.sizes() != expected.sizes()) {
    return ::testing::AssertionFailure() << "shape " << actual.sizes() << " instead of " << expected.sizes();
  }
  const auto a = actual.to(at::kDouble), b = expected.to(at::kDouble);
  const auto differ = (a != b).logical_and(a.isnan().logical_and(b.isnan()).logical_not());
  const auto count = differ.sum().item<int64_t>();
  if (count == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << count << " of " << a.numel() << " numbers differ, by up to "
                                       << (a - b).abs().max().item<double>();
}

}  // namespace tsquant::testing
