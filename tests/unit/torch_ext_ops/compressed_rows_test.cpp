#include <gtest/gtest.h>

#include "compressed_weight.h"

namespace tsquant::testing {
namespace {

class CompressedRows : public ::testing::TestWithParam<int> {
 protected:
  const FormatRow& row() const { return formats()[static_cast<size_t>(GetParam())]; }
};

INSTANTIATE_TEST_SUITE_P(Formats, CompressedRows, ::testing::Range(0, static_cast<int>(formats().size())),
                         [](const auto& info) { return formats()[static_cast<size_t>(info.param)].info.name; });

/// Products of levels and float16 scales are exact in float32, but for levels with a whole mantissa (NF4, codebooks).
bool is_rounded(const at::Tensor& y, const at::Tensor& exact) {
  return ((y.to(at::kDouble) - exact).abs() <= exact.abs() * 0x1p-24).all().item<bool>();
}

TEST_P(CompressedRows, AreTheDecodedValues) {
  at::manual_seed(5);
  for (const bool asymmetric : {false, true}) {
    if (asymmetric && !row().info.integer) continue;
    for (const auto& [size, group] : std::vector<std::pair<int64_t, int64_t>>{
             {1, -1}, {9, -1}, {33, 11}, {130, -1}, {192, 32}, {48, 16}, {300, 150}}) {
      const auto w = store(row(), 6, size, {asymmetric, group});
      const auto values = decompress_to(w, {6, size}, at::kFloat);
      EXPECT_TRUE(is_rounded(values, w.values)) << size << " in groups of " << group;
      if (row().info.integer) EXPECT_TRUE(identical(values, w.values.to(at::kFloat))) << size << " " << group;
      const auto indices = at::tensor({5, 0, 3, 3}, at::kLong).reshape({2, 2});
      EXPECT_TRUE(identical(embedding(indices, w), values.index({indices}))) << size << " " << group;
    }
  }
}

TEST(Decompress, ShapesAndTypes) {
  at::manual_seed(6);
  const auto w = store(row_of(Format::kInt8), 4, 18, {});  // a convolution's weight
  const auto values = decompress_to(w, {4, 2, 3, 3}, at::kFloat);
  EXPECT_TRUE(identical(values, w.values.to(at::kFloat).reshape({4, 2, 3, 3})));
  for (const auto type : {at::kHalf, at::kBFloat16}) {
    EXPECT_TRUE(identical(decompress_to(w, {4, 2, 3, 3}, type), values.to(type)));
    const auto like = call_compressed(
        "decompress",
        {at::randn({1}).to(type), w.weight, w.scale, {}, w.format, std::vector<int64_t>{4, 2, 3, 3}, -1, {}, {}},
        "like");
    EXPECT_TRUE(identical(like, values.to(type)));
    EXPECT_TRUE(identical(embedding(at::tensor({1, 2}), w, type), values.reshape({4, 18}).narrow(0, 1, 2).to(type)));
  }
  // Rows of a batched matrix.
  const auto batched = store(row_of(Format::kInt3), 6, 10, {});
  EXPECT_TRUE(
      identical(decompress_to(batched, {2, 3, 10}, at::kFloat), batched.values.to(at::kFloat).reshape({2, 3, 10})));
}

TEST(EmbeddingCompressed, ShapesOfIndices) {
  const auto w = store(row_of(Format::kInt4), 9, 8, {});
  EXPECT_EQ(embedding(at::scalar_tensor(3, at::kLong), w).sizes(), (std::vector<int64_t>{8}));
  EXPECT_EQ(embedding(at::empty({0, 2}, at::kLong), w).sizes(), (std::vector<int64_t>{0, 2, 8}));
  const auto indices = at::tensor({8, 1, 0}, at::kLong);
  EXPECT_TRUE(identical(embedding(indices.to(at::kInt), w), embedding(indices, w)));
}

TEST(EmbeddingCompressed, RefusesIndicesOutsideOfTheTable) {
  const auto w = store(row_of(Format::kInt4), 9, 8, {});
  EXPECT_TRUE(fails_with([&] { embedding(at::tensor({0, 9}), w); }, "index 9 is outside of the 9 rows"));
  EXPECT_TRUE(fails_with([&] { embedding(at::tensor({-1}), w); }, "index -1"));
  EXPECT_TRUE(fails_with([&] { embedding(at::randn({2}), w); }, "int64 or int32"));
}

}  // namespace
}  // namespace tsquant::testing
