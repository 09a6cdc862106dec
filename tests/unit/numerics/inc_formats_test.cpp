// Codes of Neural Compressor's quantize_4bit (v2.6), see tests/data/numerics/inc_4bit.json.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "io/named_tensors.h"
#include "numerics/formats.h"
#include "support/support.h"

namespace tsquant {
namespace {

/// Its NF4 numbers the levels by another pattern of 4 bits.
at::Tensor inc_pattern(const at::Tensor& codes, Format format) {
  if (format != Format::kNf4) return codes.to(at::kLong);
  const auto patterns = at::tensor({7, 1, 2, 3, 4, 5, 6, 0, 8, 9, 10, 11, 12, 13, 14, 15}, at::kLong);
  return patterns.index({codes.to(at::kLong)});
}

TEST(IncFormats, GiveNeuralCompressorsCodes) {
  const std::map<std::string, Format> names = {{"nf4", Format::kNf4},
                                               {"fp4", Format::kIncFp4Bnb},
                                               {"fp4_e2m1_bnb", Format::kIncFp4Bnb},
                                               {"fp4_e2m1", Format::kIncFp4E2M1}};
  std::map<std::string, at::Tensor> arrays;
  for (const auto& [name, tensor] : read_numpy_file(testing::data_file("numerics/inc_4bit.npz"))) arrays[name] = tensor;
  std::ifstream file(testing::data_file("numerics/inc_4bit.json"));
  const auto cases = nlohmann::json::parse(file);
  ASSERT_GT(cases.size(), 30u);
  for (const auto& c : cases) {
    const Format format = names.at(c["dtype"]);
    const auto w = arrays.at(c["input"]).to(at::kFloat), expected_scale = arrays.at(c["scale"]);
    const double quantile = c["quantile"];
    const auto scale = w.abs().amax(1, true) * quantile / format_info(format).largest;
    EXPECT_TRUE(at::allclose(scale, expected_scale, 1e-6, 0)) << c;
    const auto codes = inc_pattern(encode(w / expected_scale, format), format);
    const auto expected = arrays.at(c["codes"]).to(at::kLong).bitwise_and(15);
    EXPECT_EQ((codes != expected).sum().item<int64_t>(), 0) << c;
  }
}

}  // namespace
}  // namespace tsquant
