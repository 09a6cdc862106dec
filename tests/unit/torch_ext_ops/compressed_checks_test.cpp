// What the operators of compressed weights refuse, and what they say.
#include <gtest/gtest.h>

#include "compressed_weight.h"

namespace tsquant::testing {
namespace {

/// A call that is sound, to be changed.
struct Call {
  StoredWeight w = store(row_of(Format::kInt4), 6, 64, {true, 32});
  at::Tensor x = at::randn({2, 64});
  c10::IValue bias;
};

/// Whether the call with this change fails with this text.
template <typename Change>
bool refused(const Change& change, const std::string& text) {
  Call call;
  change(call);
  return fails_with([&] { linear(call.x, call.w, call.bias); }, text);
}

TEST(LinearCompressedChecks, Input) {
  EXPECT_TRUE(refused([](Call& c) { c.x = at::randn({2, 63}); }, "x must have 64 elements in its last dimension"));
  EXPECT_TRUE(refused([](Call& c) { c.x = at::tensor(1.0F); }, "x must have 64 elements"));
  EXPECT_TRUE(refused([](Call& c) { c.x = c.x.to(at::kDouble); }, "x must be float32, float16 or bfloat16"));
  EXPECT_TRUE(refused([](Call& c) { c.x = c.x.to(at::kMeta); }, "x must be a dense tensor on the CPU"));
  EXPECT_TRUE(refused([](Call& c) { c.x = at::quantize_per_tensor(c.x, 0.1, 0, at::kQInt8); }, "x must be a dense"));
  EXPECT_TRUE(refused([](Call& c) { c.bias = at::randn({7}); }, "bias must be 6 floats"));
  EXPECT_TRUE(refused([](Call& c) { c.bias = at::zeros({6}, at::kLong); }, "bias must be 6 floats"));
}

TEST(LinearCompressedChecks, Weight) {
  EXPECT_TRUE(refused([](Call& c) { c.w.weight = c.w.weight.to(at::kInt); }, "weight must be uint8 for int4"));
  EXPECT_TRUE(refused([](Call& c) { c.w.weight = c.w.weight.view(at::kChar); }, "weight must be uint8 for int4"));
  EXPECT_TRUE(refused([](Call& c) { c.w.weight = c.w.weight.narrow(1, 0, 31); }, "rows of 64 packed 4-bit codes"));
  EXPECT_TRUE(refused([](Call& c) { c.w.weight = c.w.weight.flatten(); }, "weight must have two dimensions"));
  EXPECT_TRUE(refused([](Call& c) { c.w.weight = c.w.weight.to_sparse(); }, "weight must be a dense tensor"));
  EXPECT_TRUE(refused([](Call& c) { c.w.format = "int9"; }, "there is no compressed format \"int9\"; choose one of"));
  EXPECT_TRUE(refused([](Call& c) { c.w.format = "int3"; }, "rows of 64 packed 3-bit codes"));
}

TEST(LinearCompressedChecks, Groups) {
  for (const int64_t size : {int64_t{0}, int64_t{-2}, int64_t{128}, int64_t{24}, std::numeric_limits<int64_t>::min()}) {
    EXPECT_TRUE(
        refused([&](Call& c) { c.w.group_size = size; }, "group_size must be -1, for whole rows, or divide 64"));
  }
  EXPECT_TRUE(refused([](Call& c) { c.w.group_size = 16; }, "scale must have the shape [6, 4, 1]"));
  EXPECT_TRUE(refused([](Call& c) { c.w.scale = c.w.scale.to(at::kDouble); }, "scale must be float16 or float32"));
  EXPECT_TRUE(refused([](Call& c) { c.w.scale = c.w.scale.reshape({2, 6}); }, "scale must have the shape [6, 2, 1]"));
  EXPECT_TRUE(refused([](Call& c) { c.w.scale = at::ones({6, 2, 1}, at::kByte); }, "scale must be float16 or float32"));
  EXPECT_TRUE(refused([](Call& c) { c.w.tensor_scale = at::ones({2}); }, "tensor_scale must be one float32"));
}

TEST(LinearCompressedChecks, ZeroPoint) {
  EXPECT_TRUE(refused([](Call& c) { c.w.zero_point = at::zeros({6, 2}, at::kByte); }, "uint8 [6, 1], 2 packed codes"));
  EXPECT_TRUE(refused([](Call& c) { c.w.zero_point = at::zeros({6, 1}); }, "zero_point must be uint8"));
  const auto eight = store(row_of(Format::kInt8), 6, 64, {});
  EXPECT_TRUE(refused(
      [&](Call& c) {
        c.w = eight, c.w.zero_point = at::zeros({6, 1}, at::kByte);
      },
      "int8 codes have no zero_point"));
  EXPECT_TRUE(
      refused([&](Call& c) { c.w = eight, c.w.weight = c.w.weight.view(at::kByte); }, "uint8 codes need a zero_point"));
  const auto nf4 = store(row_of(Format::kNf4), 6, 64, {});
  EXPECT_TRUE(refused(
      [&](Call& c) {
        c.w = nf4, c.w.zero_point = at::zeros({6, 1}, at::kByte);
      },
      "nf4 has no zero_point"));
}

TEST(LinearCompressedChecks, Codebook) {
  EXPECT_TRUE(refused([](Call& c) { c.w.codebook = at::ones({16}); }, "int4 has no codebook"));
  const auto book = store(row_of(Format::kCodebook4), 6, 64, {});
  EXPECT_TRUE(refused([&](Call& c) { c.w = book, c.w.codebook = c10::IValue(); }, "codebook4 needs a codebook"));
  EXPECT_TRUE(refused([&](Call& c) { c.w = book, c.w.codebook = at::ones({17}); }, "2 to 16 levels"));
  EXPECT_TRUE(refused([&](Call& c) { c.w = book, c.w.codebook = at::ones({16}, at::kDouble); }, "must be float32"));
  EXPECT_TRUE(refused([&](Call& c) { c.w = book, c.w.codebook = at::full({16}, INFINITY); }, "must be finite"));
}

TEST(DecompressChecks, Size) {
  const auto w = store(row_of(Format::kInt4), 6, 64, {});
  const auto size_refused = [&](const std::vector<int64_t>& size) {
    return fails_with([&] { decompress_to(w, size, at::kFloat); }, "size must be positive numbers");
  };
  EXPECT_TRUE(size_refused({6, -64}));
  EXPECT_TRUE(size_refused({5, 64}));
  EXPECT_TRUE(size_refused({int64_t{1} << 40, int64_t{1} << 40}));
  EXPECT_TRUE(fails_with([&] { decompress_to(w, {6, 65}, at::kFloat); }, "rows of 65 packed 4-bit codes"));
  EXPECT_TRUE(fails_with([&] { decompress_to(w, {6, int64_t{1} << 59}, at::kFloat); }, "packed 4-bit codes"));
  EXPECT_TRUE(fails_with([&] { decompress_to(w, {6, 64}, at::kLong); }, "float32, float16 or bfloat16"));
}

}  // namespace
}  // namespace tsquant::testing
