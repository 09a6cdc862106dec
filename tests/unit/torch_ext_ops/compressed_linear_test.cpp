#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "compressed_weight.h"
#include "kernels/compressed_format.h"

namespace tsquant::testing {
namespace {

TEST(CompressedFormats, AreThoseOfTheLibrary) {
  const auto& ours = kernels::compressed_formats();
  ASSERT_EQ(ours.size(), formats().size());
  for (size_t i = 0; i < ours.size(); ++i) {
    const FormatInfo& info = formats()[i].info;
    SCOPED_TRACE(info.name);
    EXPECT_EQ(std::string(ours[i].name), info.name);
    EXPECT_EQ(ours[i].bits, info.bits);
    EXPECT_EQ(ours[i].integer(), info.integer);
    EXPECT_EQ(ours[i].has_codebook(), info.largest == 0);
    for (int64_t size = 1; size < 40; ++size) {
      EXPECT_EQ(kernels::packed_row_size(size, ours[i].bits), packed_size(size, formats()[i].format));
    }
    if (ours[i].table == nullptr) continue;
    const auto codes = at::arange(256).to(at::kByte);
    EXPECT_TRUE(
        identical(at::from_blob(const_cast<float*>(ours[i].table()), {256}), decode(codes, formats()[i].format)));
  }
}

struct FormatCase {
  const FormatRow* row;
  bool asymmetric;
};

std::vector<FormatCase> format_cases() {
  std::vector<FormatCase> cases;
  for (const FormatRow& row : formats()) {
    cases.push_back({&row, false});
    if (row.info.integer) cases.push_back({&row, true});
  }
  return cases;
}

class LinearCompressed : public ::testing::TestWithParam<FormatCase> {
 protected:
  void SetUp() override { at::manual_seed(11); }

  StoredWeight stored(int64_t rows, int64_t size, int64_t group_size, at::ScalarType scale = at::kHalf) const {
    return store(*GetParam().row, rows, size, {GetParam().asymmetric, group_size, scale});
  }
};

INSTANTIATE_TEST_SUITE_P(Formats, LinearCompressed, ::testing::ValuesIn(format_cases()), [](const auto& info) {
  return info.param.row->info.name + std::string(info.param.asymmetric ? "_asym" : "");
});

TEST_P(LinearCompressed, IsTheProductWithTheDecodedWeight) {
  // Sizes around the steps of the loops: 32, 64 and 128 codes, chunks of 512.
  const std::vector<std::pair<int64_t, int64_t>> shapes = {{1, -1},   {7, -1},  {31, -1},  {64, -1},   {65, -1},
                                                           {130, -1}, {96, 32}, {128, 64}, {192, 96},  {160, 160},
                                                           {48, 16},  {39, 3},  {72, 24},  {516, 258}, {640, 128}};
  for (const auto& [size, group] : shapes) {
    const auto w = stored(7, size, group);
    for (const int64_t inputs : {1, 3, 9}) {
      const auto x = at::randn({inputs, size}), bias = at::randn({7});
      EXPECT_TRUE(is_product(linear(x, w), x, w)) << size << " in groups of " << group << ", " << inputs << " inputs";
      EXPECT_TRUE(identical(linear(x, w, bias), linear(x, w) + bias)) << size << " " << group << " " << inputs;
    }
  }
}

TEST_P(LinearCompressed, AnInputGivesTheSameBitsInEveryBatch) {
  const auto w = stored(5, 161, -1), groups = stored(5, 192, 32);
  for (const StoredWeight& each : {w, groups}) {
    const auto x = at::randn({40, each.size});
    for (int64_t inputs = 2; inputs <= 8; ++inputs) {
      for (int64_t i = 0; i < inputs; ++i) {
        EXPECT_TRUE(identical(linear(x.narrow(0, 0, inputs), each)[i], linear(x[i], each))) << inputs << " inputs";
      }
    }
    const auto all = linear(x, each);
    for (const int64_t inputs : {9, 16, 17, 33}) {
      EXPECT_TRUE(identical(linear(x.narrow(0, 0, inputs), each), all.narrow(0, 0, inputs))) << inputs << " inputs";
    }
  }
}

TEST_P(LinearCompressed, ScalesMayBeFloatsOrBytesOfTheFormat) {
  const auto x = at::randn({2, 96});
  const auto floats = stored(6, 96, 32, at::kFloat);
  EXPECT_TRUE(is_product(linear(x, floats), x, floats));
  const FormatInfo& info = GetParam().row->info;
  if (info.scale == ScaleFormat::kFloat) return;
  const auto bytes = stored(6, 96, info.group_size == 16 ? 16 : 32, at::kByte);
  EXPECT_TRUE(is_product(linear(x, bytes), x, bytes));
}

TEST(LinearCompressedShapes, AreThoseOfLinear) {
  const auto w = store(row_of(Format::kInt4), 6, 40, {});
  for (const std::vector<int64_t>& shape :
       std::vector<std::vector<int64_t>>{{40}, {1, 40}, {2, 3, 40}, {2, 3, 5, 40}}) {
    const auto x = at::randn(shape);
    const auto y = linear(x, w);
    EXPECT_EQ(y.sizes(), at::linear(x, w.values.to(at::kFloat)).sizes());
    EXPECT_TRUE(is_product(y, x, w));
  }
  EXPECT_EQ(linear(at::randn({0, 40}), w).sizes(), (std::vector<int64_t>{0, 6}));
  StoredWeight empty = w;
  empty.weight = w.weight.narrow(0, 0, 0);
  empty.scale = w.scale.narrow(0, 0, 0);
  EXPECT_EQ(linear(at::randn({3, 40}), empty).sizes(), (std::vector<int64_t>{3, 0}));
}

TEST(LinearCompressedShapes, TensorsNeedNotBeContiguous) {
  at::manual_seed(2);
  auto w = store(row_of(Format::kInt4), 6, 64, {true, 32});
  const auto x = at::randn({64, 3}).t();
  const auto expected = linear(x.contiguous(), w);
  w.weight = w.weight.t().contiguous().t();
  w.scale = w.scale.repeat_interleave(2, 0).slice(0, 0, 12, 2);
  w.zero_point = w.zero_point.toTensor().t().contiguous().t();
  EXPECT_TRUE(identical(linear(x, w), expected));
}

TEST(LinearCompressedShapes, HalvesAreComputedInFloat) {
  at::manual_seed(3);
  const auto w = store(row_of(Format::kNf4), 6, 64, {});
  for (const auto type : {at::kHalf, at::kBFloat16}) {
    const auto x = at::randn({2, 64}).to(type), bias = at::randn({6}).to(type);
    const auto y = linear(x, w, bias);
    EXPECT_EQ(y.scalar_type(), type);
    EXPECT_TRUE(identical(y, linear(x.to(at::kFloat), w, bias.to(at::kFloat)).to(type)));
  }
}

TEST(LinearCompressedShapes, InfinitiesAndNanReachTheirRowsOnly) {
  const auto w = store(row_of(Format::kInt4), 3, 64, {});
  for (const int64_t inputs : {2, 12}) {
    auto x = at::randn({inputs, 64});
    x[1][5] = NAN;
    const auto finite = at::isfinite(linear(x, w)).all(1);
    EXPECT_TRUE(finite[0].item<bool>());
    EXPECT_FALSE(finite[1].item<bool>());
  }
}

TEST(LinearCompressedThreads, ChangeNoBit) {
  at::manual_seed(4);
  const int before = at::get_num_threads();
  for (const Format format : {Format::kInt4, Format::kInt8, Format::kNvFp4}) {
    // Enough work for several tasks: rows of weights, and blocks of inputs. The last rows have two chunks.
    for (const auto& [rows, size, inputs] :
         std::vector<std::tuple<int64_t, int64_t, int64_t>>{{333, 640, 8}, {101, 48, 140}, {50, 528, 140}}) {
      const auto w = store(row_of(format), rows, size, {false, 16});
      const auto x = at::randn({inputs, size});
      at::set_num_threads(1);
      const auto expected = linear(x, w);
      EXPECT_TRUE(is_product(expected, x, w));
      for (const int threads : {2, 3}) {
        at::set_num_threads(threads);
        EXPECT_TRUE(identical(linear(x, w), expected)) << threads << " threads, " << inputs << " inputs";
      }
    }
  }
  at::set_num_threads(before);
}

}  // namespace
}  // namespace tsquant::testing
