#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kernel_call.h"
#include "targets.h"

namespace tsquant::testing {
namespace {

/// Codes of every value of the type.
/// The same values in several layouts: planar, channels-last, a slice with gaps, a transposition, an expansion.
std::vector<at::Tensor> layouts(at::ScalarType type, double scale, int64_t zero_point) {
  const auto images = random_codes({2, 6, 5, 7}, scale, zero_point, type);
  const auto wide = random_codes({2, 12, 5, 14}, scale, zero_point, type);
  const auto last = wide.contiguous(at::MemoryFormat::ChannelsLast);
  return {images,
          images.contiguous(at::MemoryFormat::ChannelsLast),
          wide.slice(1, 0, 12, 2).slice(3, 3, 10),
          last.slice(1, 1, 7).slice(3, 0, 14, 2),
          random_codes({7, 5, 6, 2}, scale, zero_point, type).permute({3, 2, 1, 0}),
          random_codes({2, 6, 1, 1}, scale, zero_point, type).expand({2, 6, 5, 7}),
          random_codes({2, 4, 9, 9}, scale, zero_point, type),
          random_codes({2, 3, 4, 2, 5}, scale, zero_point, type).contiguous(at::MemoryFormat::ChannelsLast3d),
          random_codes({3, 9, 8}, scale, zero_point, type).permute({0, 2, 1}),
          random_codes({11}, scale, zero_point, type),
          random_codes({}, scale, zero_point, type),
          random_codes({0, 3, 2, 2}, scale, zero_point, type)};
}

void expect_same_codes(const at::Tensor& got, const at::Tensor& want, const std::string& what) {
  ASSERT_EQ(got.sizes(), want.sizes()) << what;
  ASSERT_EQ(got.scalar_type(), want.scalar_type()) << what;
  EXPECT_TRUE(at::equal(got.int_repr().contiguous(), want.int_repr().contiguous())) << what;
  EXPECT_DOUBLE_EQ(got.q_scale(), want.q_scale()) << what;
  EXPECT_EQ(got.q_zero_point(), want.q_zero_point()) << what;
}

/// A dense input keeps its strides.
void expect_layout(const at::Tensor& result, const at::Tensor& x) {
  if (x.is_non_overlapping_and_dense()) {
    EXPECT_EQ(result.strides(), x.strides()) << x.sizes();
  }
}

struct TypeCase {
  at::ScalarType type;
  int64_t zero_point, other_zero_point, out_zero_point;
};
const TypeCase kTypes[] = {{at::kQUInt8, 128, 3, 101}, {at::kQInt8, -7, 100, -128}};

class Elementwise : public EveryTarget {
 protected:
  void SetUp() override {
    EveryTarget::SetUp();
    at::manual_seed(1);
  }
};
INSTANTIATE_TEST_SUITE_P(Targets, Elementwise, all_targets(), target_name);

TEST_P(Elementwise, QuantizeGivesTheCodesOfLibTorch) {
  for (const TypeCase& t : kTypes) {
    for (const auto& codes : layouts(t.type, 0.05, t.zero_point)) {
      const bool expanded = codes.numel() > 1 && codes.stride(-1) == 0;
      const auto x = expanded ? at::randn({1}).expand(codes.sizes())
                              : at::empty_strided(codes.sizes(), codes.strides(), at::kFloat).normal_(0, 3);
      const auto y = run_kernel("quantize", {x, 0.037, t.out_zero_point, t.type}).toTensor();
      expect_same_codes(y, at::quantize_per_tensor(x, 0.037, t.out_zero_point, t.type), "quantize");
      if (x.dim() == 4) {
        EXPECT_TRUE(y.is_contiguous(at::MemoryFormat::ChannelsLast));
      } else if (x.dim() == 5) {
        EXPECT_TRUE(y.is_contiguous(at::MemoryFormat::ChannelsLast3d));
      } else {
        expect_layout(y, x);
      }
    }
  }
}

TEST_P(Elementwise, QuantizeTakesOtherFloatTypesAndPlanesOfManyChannels) {
  for (const TypeCase& t : kTypes) {
    for (const int64_t channels : {1, 3, 4, 5, 64}) {
      const auto x = at::randn({2, channels, 17, 19}) * 3;
      expect_same_codes(run_kernel("quantize", {x, 0.037, t.zero_point, t.type}).toTensor(),
                        at::quantize_per_tensor(x, 0.037, t.zero_point, t.type), "planes");
    }
    const auto d = at::randn({5, 33}, at::kDouble);
    expect_same_codes(run_kernel("quantize", {d, 0.1, t.zero_point, t.type}).toTensor(),
                      at::quantize_per_tensor(d.to(at::kFloat), 0.1, t.zero_point, t.type), "double");
  }
  const auto x = at::randn({3, 4});
  expect_same_codes(run_kernel("quantize", {x, 0.1, -3, at::kQInt32}).toTensor(),
                    at::quantize_per_tensor(x, 0.1, -3, at::kQInt32), "qint32");
}

TEST_P(Elementwise, DequantizeGivesTheValuesAndLayoutOfTheCodes) {
  for (const TypeCase& t : kTypes) {
    for (const auto& x : layouts(t.type, 0.05, t.zero_point)) {
      const auto y = run_kernel("dequantize", {x}).toTensor();
      EXPECT_TRUE(at::equal(y, x.dequantize())) << x.sizes();
      expect_layout(y, x);
    }
  }
  const auto rows =
      at::quantize_per_channel(at::randn({3, 4}), at::full({3}, 0.1), at::zeros({3}, at::kLong), 0, at::kQInt8);
  EXPECT_TRUE(at::equal(run_kernel("dequantize", {rows}).toTensor(), rows.dequantize()));
}

at::Tensor binary_reference(const std::string& name, const at::Tensor& a, const at::Tensor& b, bool relu, double scale,
                            int64_t zero_point) {
  const at::Tensor x = a.dequantize(), y = b.dequantize(), both = name == "add" ? x + y : x * y;
  return at::quantize_per_tensor(relu ? both.relu() : both, scale, zero_point, a.scalar_type());
}

TEST_P(Elementwise, AddAndMulGiveTheCodesOfFloatOperations) {
  for (const TypeCase& t : kTypes) {
    const auto as = layouts(t.type, 0.0313, t.zero_point), bs = layouts(t.type, 0.0177, t.other_zero_point);
    for (size_t i = 0; i < as.size(); ++i) {
      for (size_t k = 0; k < bs.size(); ++k) {
        if (as[i].sizes() != bs[k].sizes()) continue;
        for (const std::string name : {"add", "mul"}) {
          for (const bool relu : {false, true}) {
            const auto y = run_kernel(name, {as[i], bs[k], relu, 0.0251, t.out_zero_point}).toTensor();
            expect_same_codes(y, binary_reference(name, as[i], bs[k], relu, 0.0251, t.out_zero_point), name);
            expect_layout(y, as[i]);
          }
        }
      }
    }
  }
}

TEST_P(Elementwise, AddAndMulKeepToBounds) {
  for (const TypeCase& t : kTypes) {
    const auto a = random_codes({3, 5, 71}, 0.0313, t.zero_point, t.type);
    const auto b = random_codes({3, 5, 71}, 0.0177, t.other_zero_point, t.type);
    const int64_t lowest = t.type == at::kQInt8 ? -128 : 0;
    for (const std::string name : {"add", "mul"}) {
      const auto free = binary_reference(name, a, b, false, 0.0251, t.out_zero_point);
      for (const auto& [low, high] : {std::pair{0, 255}, {0, 127}, {40, 255}, {90, 91}, {60, 60}}) {
        const auto y = run_kernel(name, {a, b, lowest + low, lowest + high, 0.0251, t.out_zero_point}, "clamped");
        const auto codes = free.int_repr().clamp(lowest + low, lowest + high);
        EXPECT_TRUE(at::equal(y.toTensor().int_repr(), codes)) << name << " " << low << " " << high;
      }
    }
  }
}

TEST_P(Elementwise, AddAndMulBroadcast) {
  const auto last = at::MemoryFormat::ChannelsLast;
  for (const TypeCase& t : kTypes) {
    const auto x = random_codes({2, 37, 3, 5}, 0.05, t.zero_point, t.type);
    for (const auto& sizes : std::vector<std::vector<int64_t>>{{2, 37, 1, 1},
                                                               {37, 1, 1},
                                                               {1, 37, 1, 1},
                                                               {},
                                                               {1},
                                                               {5},
                                                               {3, 1},
                                                               {2, 1, 3, 5},
                                                               {1, 1, 1, 5},
                                                               {4, 2, 37, 3, 5}}) {
      const auto y = random_codes(sizes, 0.02, t.other_zero_point, t.type);
      for (const std::string name : {"add", "mul"}) {
        const auto want = binary_reference(name, x, y, false, 0.04, t.out_zero_point);
        for (const auto& image : {x, x.contiguous(last)}) {
          const auto z = run_kernel(name, {image, y, false, 0.04, t.out_zero_point}).toTensor();
          expect_same_codes(z, want, name);
          if (z.dim() == 4) expect_layout(z, image);
          expect_same_codes(run_kernel(name, {y, image, false, 0.04, t.out_zero_point}).toTensor(), want, name);
        }
      }
    }
    // Both operands are expanded, in the same and in different dimensions.
    const auto row = random_codes({1, 9}, 0.1, t.zero_point, t.type), column = random_codes({8, 1}, 0.2, 0, t.type);
    expect_same_codes(run_kernel("mul", {row, column, true, 0.1, t.out_zero_point}).toTensor(),
                      binary_reference("mul", row, column, true, 0.1, t.out_zero_point), "outer product");
    const auto wide = column.expand({8, 300});
    expect_same_codes(run_kernel("add", {wide, wide, false, 0.1, t.out_zero_point}).toTensor(),
                      binary_reference("add", wide, wide, false, 0.1, t.out_zero_point), "twice expanded");
  }
}

TEST_P(Elementwise, LookupIsIndexedFromTheLowestCode) {
  const auto table = at::randint(0, 256, {256}, at::kByte);
  for (const TypeCase& t : kTypes) {
    const int64_t lowest = t.type == at::kQInt8 ? -128 : 0;
    for (const auto& x : layouts(t.type, 0.1, t.zero_point)) {
      const auto y = run_kernel("lookup", {x, table, 0.7, t.out_zero_point}).toTensor();
      const auto codes = table.index({x.int_repr().to(at::kLong) - lowest}).to(at::kLong) + lowest;
      EXPECT_TRUE(at::equal(y.int_repr().to(at::kLong), codes)) << x.sizes();
      EXPECT_DOUBLE_EQ(y.q_scale(), 0.7);
      EXPECT_EQ(y.q_zero_point(), t.out_zero_point);
      expect_layout(y, x);
    }
  }
}

at::Tensor cat_reference(const std::vector<at::Tensor>& parts, int64_t dim, double scale, int64_t zero_point) {
  std::vector<at::Tensor> values;
  for (const auto& x : parts) values.push_back(x.dequantize());
  return at::quantize_per_tensor(at::cat(values, dim), scale, zero_point, parts[0].scalar_type());
}

TEST_P(Elementwise, CatGivesTheCodesOfRequantizedParts) {
  for (const TypeCase& t : kTypes) {
    const auto images = layouts(t.type, 0.03, t.zero_point);
    const std::vector<at::Tensor> four(images.begin(), images.begin() + 6);
    for (size_t first = 0; first < four.size(); ++first) {
      for (const int64_t dim : {0, 1, 2, 3, -1, -3}) {
        std::vector<at::Tensor> parts = {four[first], random_codes({2, 6, 5, 7}, 0.09, t.other_zero_point, t.type),
                                         random_codes({2, 6, 5, 7}, 0.05, t.out_zero_point, t.type),
                                         four[(first + 3) % four.size()]};
        if (dim == 1) parts.push_back(random_codes({2, 67, 5, 7}, 0.01, 0, t.type));
        const auto y = run_kernel("cat", {parts, dim, 0.05, t.out_zero_point}).toTensor();
        expect_same_codes(y, cat_reference(parts, dim, 0.05, t.out_zero_point), "cat");
        if (first == 1) {
          EXPECT_TRUE(y.is_contiguous(at::MemoryFormat::ChannelsLast));
        }
      }
    }
    const std::vector<at::Tensor> with_empty = {random_codes({0}, 1, 0, t.type),
                                                random_codes({3, 4}, 0.1, t.zero_point, t.type),
                                                random_codes({0, 4}, 0.2, 0, t.type)};
    const auto y = run_kernel("cat", {with_empty, -2, 0.1, t.zero_point}).toTensor();
    EXPECT_TRUE(at::equal(y.int_repr(), with_empty[1].int_repr()));
    const std::vector<at::Tensor> nothing = {with_empty[0]};
    EXPECT_EQ(run_kernel("cat", {nothing, 0, 0.1, 0}).toTensor().sizes(), at::IntArrayRef({0}));
  }
}

TEST(ElementwiseErrors, SayWhatWasWrong) {
  const auto u = random_codes({2, 3}, 0.1, 4), s = random_codes({2, 3}, 0.1, 4, at::kQInt8);
  const auto other = random_codes({2, 4}, 0.1, 4);
  const auto table = at::zeros({256}, at::kByte);
  const std::vector<at::Tensor> mixed = {u, s}, ragged = {u, other}, none, scalars = {random_codes({}, 1, 0)};
  EXPECT_THROW(run_kernel("add", {u, s, false, 0.1, 0}), c10::Error);
  EXPECT_THROW(run_kernel("mul", {u, other, false, 0.1, 0}), c10::Error);
  EXPECT_THROW(run_kernel("mul", {u, at::ones({2, 3}), false, 0.1, 0}), c10::Error);
  EXPECT_THROW(run_kernel("add", {u, u, false, 0.0, 0}), c10::Error);
  EXPECT_THROW(run_kernel("add", {u, u, false, 1e-60, 0}), c10::Error);
  EXPECT_THROW(run_kernel("add", {u, u, false, 0.1, 256}), c10::Error);
  EXPECT_THROW(run_kernel("add", {s, s, false, 0.1, 128}), c10::Error);
  EXPECT_THROW(run_kernel("add", {u, u, -1, 127, 0.1, 0}, "clamped"), c10::Error);
  EXPECT_THROW(run_kernel("mul", {u, u, 5, 4, 0.1, 0}, "clamped"), c10::Error);
  EXPECT_THROW(run_kernel("add", {s, s, 0, 128, 0.1, 0}, "clamped"), c10::Error);
  EXPECT_THROW(run_kernel("quantize", {at::ones({2}), 0.1, -1, at::kQUInt8}), c10::Error);
  EXPECT_THROW(run_kernel("quantize", {at::ones({2}), -0.1, 1, at::kQInt8}), c10::Error);
  EXPECT_THROW(run_kernel("lookup", {u, at::zeros({255}, at::kByte), 0.7, 9}), c10::Error);
  EXPECT_THROW(run_kernel("lookup", {at::ones({2}), table, 0.7, 9}), c10::Error);
  EXPECT_THROW(run_kernel("cat", {mixed, 0, 0.1, 0}), c10::Error);
  EXPECT_THROW(run_kernel("cat", {ragged, 0, 0.1, 0}), c10::Error);
  EXPECT_THROW(run_kernel("cat", {ragged, 2, 0.1, 0}), c10::Error);
  EXPECT_THROW(run_kernel("cat", {none, 0, 0.1, 0}), c10::Error);
  EXPECT_THROW(run_kernel("cat", {scalars, 0, 0.1, 0}), c10::Error);
}

}  // namespace
}  // namespace tsquant::testing
