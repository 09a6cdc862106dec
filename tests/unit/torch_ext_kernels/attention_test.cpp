#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernel_call.h"
#include "targets.h"

namespace tsquant::testing {
namespace {

constexpr double kResultScale = 0.0625;
constexpr int64_t kResultZero = 100;

/// Operands as models have them: [batch, heads, rows, size] as a view of [batch, rows, heads, size].
struct AttentionData {
  at::Tensor query, key, value;  ///< the key transposed
  std::vector<at::Tensor> masks;
  double factor = 1;
  bool divides = false;
  c10::optional<std::pair<double, int64_t>> query_codes, weight_codes;

  std::vector<c10::IValue> arguments() const {
    const auto scale = [](const auto& codes) { return codes ? c10::IValue(codes->first) : c10::IValue(); };
    const auto zero = [](const auto& codes) { return codes ? c10::IValue(codes->second) : c10::IValue(); };
    return {query,
            key,
            value,
            masks,
            factor,
            divides,
            scale(query_codes),
            zero(query_codes),
            scale(weight_codes),
            zero(weight_codes)};
  }
  at::Tensor floats() const { return run_kernel("attention_float", arguments()).toTensor(); }
  at::Tensor codes() const {
    auto all = arguments();
    all.insert(all.end(), {kResultScale, kResultZero});
    return run_kernel("attention", all).toTensor();
  }
};

at::Tensor real_values(const at::Tensor& x) { return (x.is_quantized() ? x.dequantize() : x).to(at::kDouble); }

at::Tensor requantized(const at::Tensor& x, const std::pair<double, int64_t>& codes) {
  return at::quantize_per_tensor(x.to(at::kFloat), codes.first, codes.second, at::kQUInt8).dequantize().to(at::kDouble);
}

/// The same in doubles, but for the quantizers.
at::Tensor expected_attention(const AttentionData& d) {
  at::Tensor query = real_values(d.query);
  if (d.divides) {
    query = query / d.factor;
  } else {
    query = query * d.factor;
  }
  if (d.query_codes) query = requantized(query, *d.query_codes);
  at::Tensor scores = at::matmul(query, real_values(d.key));
  for (const at::Tensor& mask : d.masks) scores = scores + mask.to(at::kDouble);
  at::Tensor weights = at::softmax(scores, -1);
  if (d.weight_codes) weights = requantized(weights, *d.weight_codes);
  return at::matmul(weights, real_values(d.value));
}

struct AttentionShape {
  int64_t batch, heads, queries, keys, size, columns;
};

AttentionData random_attention(const AttentionShape& s, at::ScalarType type = at::kQUInt8) {
  const int64_t zero = type == at::kQUInt8 ? 120 : -8;
  const auto heads = [](const at::Tensor& x) { return x.permute({0, 2, 1, 3}); };
  AttentionData d;
  d.query = heads(random_codes({s.batch, s.queries, s.heads, s.size}, 0.03125, zero, type));
  d.key = heads(random_codes({s.batch, s.keys, s.heads, s.size}, 0.03125, zero + 3, type)).transpose(-2, -1);
  d.value = heads(random_codes({s.batch, s.keys, s.heads, s.columns}, 0.0625, zero - 2, type));
  d.factor = std::sqrt(static_cast<double>(s.size));
  d.divides = true;
  return d;
}

const std::vector<AttentionShape>& attention_shapes() {
  static const std::vector<AttentionShape> shapes = {
      {1, 1, 1, 1, 1, 1},    {1, 3, 5, 7, 3, 9},     {2, 2, 17, 16, 8, 16},  {1, 2, 65, 33, 32, 31},
      {1, 1, 6, 130, 64, 5}, {3, 1, 49, 49, 32, 32}, {1, 2, 13, 15, 65, 64}, {1, 1, 197, 40, 16, 48}};
  return shapes;
}

class AttentionKernel : public EveryTarget {
 protected:
  void SetUp() override {
    EveryTarget::SetUp();
    at::manual_seed(11);
  }
};
INSTANTIATE_TEST_SUITE_P(Targets, AttentionKernel, all_targets(), target_name);

void expect_float_attention(const AttentionData& d, const char* what) {
  const at::Tensor want = expected_attention(d), got = d.floats();
  ASSERT_EQ(got.sizes(), want.sizes()) << what;
  if (want.numel() == 0) return;
  EXPECT_LE((got.to(at::kDouble) - want).abs().max().item<double>(),
            2e-6 * real_values(d.value).abs().max().item<double>())
      << what << ' ' << want.sizes();
}

TEST_P(AttentionKernel, FloatWeights) {
  for (const AttentionShape& shape : attention_shapes()) {
    for (const auto type : {at::kQUInt8, at::kQInt8}) expect_float_attention(random_attention(shape, type), "codes");
  }
}

TEST_P(AttentionKernel, QuantizedQueryAndMasks) {
  for (const AttentionShape& shape : attention_shapes()) {
    AttentionData d = random_attention(shape);
    d.query_codes = std::make_pair(0.03, int64_t{99});
    d.masks = {at::randn({shape.heads, shape.queries, shape.keys})};
    expect_float_attention(d, "a mask for each head");
    d.divides = false;
    d.factor = 0.3;
    d.masks.push_back(at::randn({shape.batch, 1, 1, shape.keys}));
    d.masks.push_back(at::randn({shape.queries, 1}));
    expect_float_attention(d, "three masks");
    d.masks.push_back(at::randn({shape.keys, shape.queries}).t());
    expect_float_attention(d, "a transposed mask");
  }
}

/// A weight that lies between two codes may become either; so the weights are compared through a value of units.
TEST_P(AttentionKernel, QuantizedWeights) {
  for (const AttentionShape& shape : attention_shapes()) {
    for (const int64_t zero : {0, 30}) {
      AttentionData d = random_attention(shape);
      d.weight_codes = std::make_pair(1.0 / 255, zero);
      const at::Tensor want = expected_attention(d), got = d.floats();
      const double unit = real_values(d.value).abs().max().item<double>() / 255;
      EXPECT_LE((got.to(at::kDouble) - want).abs().max().item<double>(), 1.01 * unit);
      EXPECT_LE((got.to(at::kDouble) - want).abs().mean().item<double>(), 0.01 * unit);
    }
  }
}

TEST_P(AttentionKernel, QuantizedResult) {
  for (const AttentionShape& shape : attention_shapes()) {
    const AttentionData d = random_attention(shape);
    const at::Tensor got = d.codes();
    EXPECT_EQ(got.q_scale(), kResultScale);
    EXPECT_EQ(got.q_zero_point(), kResultZero);
    const at::Tensor want = (expected_attention(d) / kResultScale + kResultZero).clamp(0, 255);
    EXPECT_LE((got.int_repr().to(at::kDouble) - want).abs().max().item<double>(), 0.5001);
  }
}

/// All instruction sets, numbers of threads and memory layouts give the bits of plain C++.
TEST_P(AttentionKernel, HasTheSameBitsEverywhere) {
  for (const AttentionShape& shape : attention_shapes()) {
    for (const bool quantized : {false, true}) {
      AttentionData d = random_attention(shape);
      d.masks = {at::randn({shape.queries, shape.keys})};
      if (quantized) d.weight_codes = std::make_pair(1.0 / 255, int64_t{0});
      const at::Tensor floats = d.floats(), codes = d.codes();
      kernels::limit_isa(kernels::Isa::kScalar);
      at::set_num_threads(2);
      d.query = d.query.clone(at::MemoryFormat::Contiguous);
      d.key = d.key.clone(at::MemoryFormat::Contiguous);
      const at::Tensor plain = d.floats(), plain_codes = d.codes();
      at::set_num_threads(1);
      kernels::limit_isa(GetParam());
      EXPECT_TRUE(at::equal(floats, plain));
      EXPECT_TRUE(at::equal(codes.int_repr(), plain_codes.int_repr()));
    }
  }
}

TEST_P(AttentionKernel, FloatOperands) {
  for (const AttentionShape& shape : attention_shapes()) {
    AttentionData d = random_attention(shape);
    d.query = d.query.dequantize();
    expect_float_attention(d, "a float query");
    d.key = d.key.dequantize();
    d.value = d.value.dequantize();
    expect_float_attention(d, "floats");
    const at::Tensor floats = d.floats();
    kernels::limit_isa(kernels::Isa::kScalar);
    EXPECT_TRUE(at::equal(floats, d.floats()));
    kernels::limit_isa(GetParam());
  }
}

TEST_P(AttentionKernel, BatchesBroadcastAndMasksRepeat) {
  AttentionData d = random_attention({6, 2, 9, 10, 4, 5});
  d.key = d.key.slice(0, 0, 1);
  d.value = d.value[0];
  expect_float_attention(d, "one key for all");
  const at::Tensor mask = at::randn({3, 1, 9, 10});
  d.masks = {mask};
  const at::Tensor got = d.floats();
  d.masks = {at::cat({mask, mask}, 0)};
  EXPECT_TRUE(at::equal(got, d.floats())) << "a mask for three windows repeats for the next three";
  expect_float_attention(d, "windows");
}

TEST_P(AttentionKernel, ScoresWithoutAValueAreAsInLibTorch) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  AttentionData d = random_attention({1, 1, 4, 20, 8, 3});
  at::Tensor mask = at::zeros({4, 20});
  mask[0].slice(0, 3, 20).fill_(-kInfinity);
  mask[1].fill_(-1e9);
  mask[2].fill_(-kInfinity);
  mask[3][5] = std::numeric_limits<float>::quiet_NaN();
  d.masks = {mask};
  const at::Tensor got = d.floats()[0][0], want = expected_attention(d)[0][0].to(at::kFloat);
  EXPECT_TRUE(at::allclose(got[0], want[0], 1e-5, 1e-5));
  // Floats of this size hold nothing of the scores.
  EXPECT_TRUE(at::allclose(got[1], d.value.dequantize()[0][0].mean(0), 1e-5, 1e-5));
  EXPECT_TRUE(at::isnan(got[2]).all().item<bool>());
  EXPECT_TRUE(at::isnan(got[3]).all().item<bool>());
  EXPECT_TRUE(at::equal(d.codes()[0][0][2].int_repr(), at::zeros({3}, at::kByte))) << "NaN is the lowest code";
}

TEST_P(AttentionKernel, ExtremeCodesDoNotOverflow) {
  AttentionData d = random_attention({1, 1, 3, 40, 64, 20});
  d.query = at::_make_per_tensor_quantized_tensor(at::full({3, 64}, 255, at::kByte), 1e-3, 0);
  d.key = at::_make_per_tensor_quantized_tensor(at::full({64, 40}, 0, at::kByte), 1e-3, 255);
  d.value = at::_make_per_tensor_quantized_tensor(at::full({40, 20}, 255, at::kByte), 0.01, 0);
  d.weight_codes = std::make_pair(1.0 / 40, int64_t{0});
  EXPECT_TRUE(at::allclose(d.floats(), at::full({3, 20}, 2.55), 1e-5, 1e-5));
}

TEST_P(AttentionKernel, MoreProductsThanThirtyTwoBitsHoldAreFloats) {
  AttentionData d = random_attention({1, 1, 2, 40000, 2, 3});
  d.value = at::_make_per_tensor_quantized_tensor(at::full({40000, 3}, 255, at::kByte), 0.01, 0);
  d.factor = 1e6;                                     // all scores are equal
  d.weight_codes = std::make_pair(1e-9, int64_t{0});  // all weights are 255
  EXPECT_TRUE(at::allclose(d.floats(), at::full({1, 1, 2, 3}, 255e-9 * 40000 * 2.55), 1e-4, 0));
}

TEST_P(AttentionKernel, EmptyOperands) {
  expect_float_attention(random_attention({1, 2, 0, 5, 3, 4}), "no queries");
  expect_float_attention(random_attention({0, 2, 3, 5, 3, 4}), "no batch");
  AttentionData d = random_attention({1, 2, 3, 5, 0, 4});
  d.factor = 1;
  expect_float_attention(d, "no size");
  d = random_attention({1, 2, 3, 0, 3, 4});
  EXPECT_TRUE(at::equal(d.floats(), at::zeros({1, 2, 3, 4})));
  EXPECT_TRUE(at::equal(d.codes().dequantize(), at::zeros({1, 2, 3, 4})));
}

TEST(AttentionResult, LiesInMemoryAsTheQueryDoes) {
  const AttentionData d = random_attention({2, 3, 5, 5, 8, 8});
  EXPECT_TRUE(d.codes().permute({0, 2, 1, 3}).is_contiguous());
  EXPECT_TRUE(d.floats().permute({0, 2, 1, 3}).is_contiguous());
}

TEST(AttentionErrors, NameWhatIsWrong) {
  const auto message = [](const AttentionData& d) -> std::string {
    try {
      d.codes();
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "";
  };
  const AttentionData sound = random_attention({1, 2, 3, 4, 5, 6});
  EXPECT_EQ(message(sound), "");
  AttentionData d = sound;
  d.key = d.key.transpose(-2, -1);
  EXPECT_NE(message(d).find("must be [..., queries, size]"), std::string::npos);
  d = sound;
  d.value = d.value.int_repr();
  EXPECT_NE(message(d).find("value of attention must hold codes or floats"), std::string::npos);
  d = sound;
  d.query = random_codes({5}, 1, 0);
  EXPECT_NE(message(d).find("two dimensions or more"), std::string::npos);
  d = sound;
  d.masks = {at::zeros({3, 5})};
  EXPECT_NE(message(d).find("does not broadcast"), std::string::npos);
  d.masks = {at::zeros({3, 4}, at::kBool)};
  EXPECT_NE(message(d).find("must hold floats"), std::string::npos);
  d.masks = std::vector<at::Tensor>(5, at::zeros({3, 4}));
  EXPECT_NE(message(d).find("at most 4 masks"), std::string::npos);
  d = sound;
  d.query = d.query.dequantize();
  d.query_codes = std::make_pair(0.1, int64_t{0});
  EXPECT_NE(message(d).find("only a query of codes"), std::string::npos);
  d = sound;
  d.weight_codes = std::make_pair(0.0, int64_t{0});
  EXPECT_NE(message(d).find("scale must be positive"), std::string::npos);
  d = sound;  // strides of 0 make it as large as one likes
  d.key = random_codes({1, 1}, 1, 0).expand({5, int64_t{1} << 58});
  d.value = random_codes({1, 1}, 1, 0).expand({int64_t{1} << 58, 6});
  EXPECT_NE(message(d).find("matrices have at most"), std::string::npos);
}

class MatmulKernel : public EveryTarget {
 protected:
  void SetUp() override {
    EveryTarget::SetUp();
    at::manual_seed(12);
  }
};
INSTANTIATE_TEST_SUITE_P(Targets, MatmulKernel, all_targets(), target_name);

/// With scales that are powers of two all results are exact.
TEST_P(MatmulKernel, IsExact) {
  const std::vector<std::vector<int64_t>> shapes = {{1, 1, 1, 1}, {2, 7, 5, 17}, {3, 66, 33, 16}, {1, 70, 130, 40}};
  for (const auto& s : shapes) {
    for (const bool transposed : {false, true}) {
      const at::Tensor a = random_codes({s[0], s[1], s[2]}, 0.0625, 131);
      at::Tensor b = transposed ? random_codes({s[0], s[3], s[2]}, 0.125, 7).transpose(1, 2)
                                : random_codes({s[0], s[2], s[3]}, 0.125, 7);
      const at::Tensor want = at::matmul(real_values(a), real_values(b));
      EXPECT_TRUE(at::equal(run_kernel("matmul_float", {a, b}).toTensor().to(at::kDouble), want));
      const at::Tensor codes = run_kernel("matmul", {a, b, 4.0, 128}).toTensor();
      EXPECT_TRUE(
          at::equal(codes.int_repr(), at::quantize_per_tensor(want.to(at::kFloat), 4.0, 128, at::kQUInt8).int_repr()));
    }
  }
}

TEST_P(MatmulKernel, BatchesBroadcast) {
  const at::Tensor a = random_codes({2, 1, 4, 9}, 0.0625, -3, at::kQInt8), b = random_codes({3, 9, 5}, 0.125, 250);
  const at::Tensor got = run_kernel("matmul_float", {a, b}).toTensor();
  EXPECT_TRUE(at::equal(got.to(at::kDouble), at::matmul(real_values(a), real_values(b))));
}

TEST_P(MatmulKernel, LongSumsAreFloats) {
  const at::Tensor a = at::_make_per_tensor_quantized_tensor(at::full({2, 40000}, 255, at::kByte), 1, 0);
  const at::Tensor b = at::_make_per_tensor_quantized_tensor(at::full({40000, 3}, 255, at::kByte), 1, 0);
  EXPECT_TRUE(at::allclose(run_kernel("matmul_float", {a, b}).toTensor(), at::full({2, 3}, 2.601e9f), 1e-4, 0));
}

TEST(MatmulErrors, NameWhatIsWrong) {
  const at::Tensor a = random_codes({2, 3}, 1, 0);
  EXPECT_THROW(run_kernel("matmul_float", {a, a}), c10::Error);
  EXPECT_THROW(run_kernel("matmul_float", {a, a.dequantize().t()}), c10::Error);
  EXPECT_THROW(run_kernel("matmul", {a, a.t(), -1.0, 0}), c10::Error);
  const at::Tensor one = random_codes({1, 1}, 1, 0);
  EXPECT_THROW(run_kernel("matmul_float", {one.expand({2, int64_t{1} << 40}), one.expand({int64_t{1} << 40, 2})}),
               c10::Error);
  EXPECT_TRUE(at::equal(run_kernel("matmul_float", {random_codes({2, 0}, 1, 0), random_codes({0, 3}, 1, 0)}).toTensor(),
                        at::zeros({2, 3})));
}

}  // namespace
}  // namespace tsquant::testing
