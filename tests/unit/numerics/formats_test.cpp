// The same checks for every row of the table of formats: a new row needs no new test.
#include "numerics/formats.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "numerics/pack.h"
#include "tsquant/error.h"

namespace tsquant {
namespace {

struct Case {
  Format format;
  CodeOptions options;
  std::string name;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

/// A codebook that leaves some codes unused.
std::vector<float> some_levels(int bits) {
  std::vector<float> levels;
  const int count = (1 << bits) * 3 / 4;
  for (int i = 0; i < count; ++i) levels.push_back(static_cast<float>(i * i - 2 * count) / 8);
  return levels;
}

std::vector<Case> cases() {
  std::vector<Case> result;
  for (const FormatRow& row : formats()) {
    result.push_back({row.format, {}, row.info.name});
    if (row.info.largest == 0) result.back().options.codebook = some_levels(row.info.bits);
    if (!row.info.integer) continue;
    result.push_back({row.format, {}, std::string("u") + row.info.name});
    result.back().options.is_signed = false;
  }
  return result;
}

/// A code and its level.
struct Level {
  uint8_t code;
  float value;
};

class EveryFormat : public ::testing::TestWithParam<Case> {
 protected:
  const FormatInfo& info() const { return format_info(GetParam().format); }
  bool is_signed_integer() const { return info().integer && GetParam().options.is_signed; }

  at::Tensor encoded(const at::Tensor& x) const { return encode(x, GetParam().format, GetParam().options); }
  at::Tensor decoded(const at::Tensor& codes) const { return decode(codes, GetParam().format, GetParam().options); }

  float rounded(float x) const { return decoded(encoded(at::full({1}, x))).item<float>(); }

  /// The finite levels, ascending; -0 before 0.
  std::vector<Level> levels() const {
    const auto bytes = at::arange(256, at::kInt).to(at::kByte);
    const auto values = decoded(is_signed_integer() ? bytes.view(at::kChar) : bytes);
    std::vector<Level> result;
    for (int code = 0; code < 256; ++code) {
      const auto value = values[code].item<float>();
      if (std::isfinite(value)) result.push_back({static_cast<uint8_t>(code), value});
    }
    std::sort(result.begin(), result.end(), [](const Level& a, const Level& b) {
      return a.value != b.value ? a.value < b.value : std::signbit(a.value) > std::signbit(b.value);
    });
    return result;
  }
};

INSTANTIATE_TEST_SUITE_P(Table, EveryFormat, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

TEST(Formats, HaveTheRowsOfTheEnumInItsOrder) {
  std::set<std::string> names;
  for (size_t i = 0; i < formats().size(); ++i) {
    EXPECT_EQ(static_cast<size_t>(formats()[i].format), i);
    EXPECT_TRUE(names.insert(formats()[i].info.name).second) << "twice: " << formats()[i].info.name;
  }
  EXPECT_THROW(row_of(static_cast<Format>(formats().size())), Error);
}

TEST(Formats, IntegersAreFoundByTheirBits) {
  for (int64_t bits = 2; bits <= 8; ++bits) EXPECT_EQ(to_string(integer_format(bits)), "int" + std::to_string(bits));
  for (const int64_t bits : {1, 9, -4}) EXPECT_THROW(integer_format(bits), Error);
}

TEST_P(EveryFormat, SaysHowManyCodesThereAreAndHowLargeTheyGet) {
  const auto all = levels();
  ASSERT_GE(all.size(), 2u);
  EXPECT_LE(all.size(), size_t{1} << info().bits) << "bytes that are no code must decode to NaN";
  EXPECT_GT(all.size(), size_t{1} << (info().bits - 1)) << "fewer bits would do";
  if (info().integer && !is_signed_integer()) {
    EXPECT_EQ(all.back().value, 2 * info().largest - 1);
  } else if (info().largest > 0) {
    EXPECT_EQ(std::max(std::fabs(all.front().value), std::fabs(all.back().value)), info().largest);
  }
}

TEST_P(EveryFormat, EncodesEveryLevelAsItsOwnCode) {
  for (const Level& level : levels()) {
    const auto code = encoded(at::full({1}, level.value));
    EXPECT_EQ(static_cast<int>(code.view(at::kByte).item<uint8_t>()), static_cast<int>(level.code)) << level.value;
  }
}

TEST_P(EveryFormat, KeepsShapeAndType) {
  const auto x = at::randn({3, 1, 5}).transpose(0, 2);
  const auto codes = encoded(x);
  EXPECT_EQ(codes.sizes(), x.sizes());
  EXPECT_EQ(codes.scalar_type(), is_signed_integer() ? at::kChar : at::kByte);
  EXPECT_TRUE(at::equal(decoded(codes).transpose(0, 2), decoded(encoded(x.transpose(0, 2)))));
  EXPECT_EQ(encoded(at::empty({0, 4})).numel(), 0);
  EXPECT_THROW(decoded(at::zeros({2}, at::kInt)), Error);
}

/// Values of all magnitudes, the middles between levels, and their neighbours.
at::Tensor samples(const std::vector<Level>& levels) {
  at::manual_seed(11);
  const double largest = std::max(std::fabs(levels.front().value), std::fabs(levels.back().value));
  std::vector<at::Tensor> parts{
      at::randn({2000}) * largest, (at::rand({2000}) * 2 - 1) * largest,
      at::randn({2000}) * largest * at::pow(at::full({2000}, 2.0), at::randint(-30, 0, 2000))};
  std::vector<float> middles;
  for (size_t i = 0; i + 1 < levels.size(); ++i) {
    const float middle = 0.5F * levels[i].value + 0.5F * levels[i + 1].value;
    middles.insert(middles.end(), {middle, std::nextafter(middle, -INFINITY), std::nextafter(middle, INFINITY)});
  }
  parts.push_back(at::tensor(middles));
  return at::cat(parts);
}

TEST_P(EveryFormat, EncodesToTheNearestLevel) {
  const auto all = levels();
  const auto x = samples(all);
  const auto got = decoded(encoded(x));
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double value = x[i].item<float>();
    double nearest = INFINITY;
    for (const Level& level : all) nearest = std::min(nearest, std::fabs(level.value - value));
    // Middles between levels are float32 themselves, so that they may be off by their last bit.
    ASSERT_LE(std::fabs(got[i].item<float>() - value), nearest + std::fabs(value) * 1.2e-7) << value;
  }
}

/// Vector code takes many values at a time, plain code what is left of a row.
TEST_P(EveryFormat, VectorCodeGivesTheCodesOfPlainCode) {
  const auto x = at::cat({samples(levels()), at::tensor({NAN, -NAN, INFINITY, -INFINITY, 0.F, -0.F})});
  std::vector<at::Tensor> one_by_one;
  for (int64_t i = 0; i < x.numel(); ++i) one_by_one.push_back(encoded(x.narrow(0, i, 1)));
  const auto plain = at::cat(one_by_one);
  for (const int64_t skip : {0, 1, 3, 7}) {
    const auto part = x.narrow(0, skip, x.numel() - 2 * skip);
    EXPECT_TRUE(at::equal(encoded(part), plain.narrow(0, skip, part.numel()))) << skip;
  }
}

TEST_P(EveryFormat, BreaksTiesAsItsRowSays) {
  const auto all = levels();
  int ties = 0;
  for (size_t i = 0; i + 1 < all.size(); ++i) {
    const double middle = (static_cast<double>(all[i].value) + all[i + 1].value) / 2;
    if (all[i].value == all[i + 1].value || static_cast<float>(middle) != middle) continue;
    const bool upper = info().ties == Ties::kEven && all[i + 1].code % 2 == 0;
    EXPECT_EQ(rounded(static_cast<float>(middle)), (upper ? all[i + 1] : all[i]).value) << middle;
    ++ties;
  }
  EXPECT_GT(ties, 0);
}

TEST_P(EveryFormat, SaturatesAndGivesNaNItsCode) {
  const auto all = levels();
  for (const float large : {1e4F * all.back().value + 1e4F, 3e38F, INFINITY}) {
    EXPECT_EQ(rounded(large), all.back().value);
    EXPECT_EQ(rounded(-large), all.front().value);
  }
  const float nan = rounded(NAN);
  if (info().integer) {
    EXPECT_EQ(nan, all.front().value);
  } else if (std::isnan(nan)) {
    EXPECT_EQ(info().bits, 8) << "only one-byte floating-point numbers have NaN";
  } else {
    EXPECT_EQ(nan, rounded(0));
  }
}

TEST_P(EveryFormat, PacksAndUnpacksRowsOfAnyLength) {
  std::vector<int> all;
  for (const Level& level : levels()) all.push_back(level.code);
  const auto bytes = at::tensor(all, at::kInt).to(at::kByte);
  const auto table = is_signed_integer() ? bytes.view(at::kChar) : bytes;
  at::manual_seed(3);
  for (int64_t n = 0; n <= 19; ++n) {
    const auto codes = table.index({at::randint(static_cast<int64_t>(all.size()), {2, 3, n}, at::kLong)});
    const auto packed = pack(codes, GetParam().format);
    EXPECT_EQ(packed.sizes(), (std::vector<int64_t>{2, 3, packed_size(n, GetParam().format)}));
    EXPECT_LE(packed.size(2) * 8, n * info().bits + 3 * 7) << "no more than a started byte for each plane";
    EXPECT_TRUE(at::equal(unpack(packed, GetParam().format, n, codes.scalar_type()), codes)) << n;
    const auto one_row = pack(codes[1][2].contiguous(), GetParam().format);
    EXPECT_TRUE(at::equal(one_row, packed[1][2])) << "rows do not touch each other";
  }
  EXPECT_TRUE(at::equal(pack(table[0], GetParam().format), pack(table.narrow(0, 0, 1), GetParam().format)));
}

TEST_P(EveryFormat, RefusesWhatDoesNotFitItsBytes) {
  const auto packed = at::zeros({2, packed_size(9, GetParam().format) + 1}, at::kByte);
  EXPECT_THROW(unpack(packed, GetParam().format, 9, at::kByte), Error);
  EXPECT_THROW(unpack(packed.to(at::kInt), GetParam().format, 9, at::kByte), Error);
  EXPECT_THROW(unpack(packed, GetParam().format, -1, at::kByte), Error);
  EXPECT_THROW(pack(at::zeros({4}, at::kInt), GetParam().format), Error);
  if (!info().integer) EXPECT_THROW(pack(at::zeros({4}, at::kChar), GetParam().format), Error);
  if (info().bits < 8) {
    EXPECT_THROW(pack(at::full({4}, 1 << info().bits, at::kByte), GetParam().format), Error);
    if (info().integer) EXPECT_THROW(pack(at::full({4}, -info().largest - 1, at::kChar), GetParam().format), Error);
  }
}

TEST(Pack, HasTheLayoutOfItsDescription) {
  const auto expect = [](Format format, const std::vector<int>& codes, c10::ScalarType type,
                         const std::vector<int>& bytes) {
    EXPECT_TRUE(
        at::equal(pack(at::tensor(codes, at::kInt).to(type), format), at::tensor(bytes, at::kInt).to(at::kByte)))
        << to_string(format);
  };
  expect(Format::kInt4, {1, 2, 3}, at::kByte, {0x21, 0x03});
  expect(Format::kInt4, {-8, 7, 0}, at::kChar, {0xF0, 0x08});
  expect(Format::kInt2, {1, 2, 3, 0, 1}, at::kByte, {0b00111001, 0b01});
  expect(Format::kInt3, {0b101, 0b010, 0b111}, at::kByte, {0b111001, 0b101});
  expect(Format::kInt8, {-128, 5}, at::kChar, {0x80, 5});
  expect(Format::kMxFp4, {0xF, 0x7}, at::kByte, {0x7F});
}

TEST(Codebooks, ThatCannotBeNumberedAreRefused) {
  const auto message_of = [](const std::vector<float>& levels) {
    CodeOptions options;
    options.codebook = levels;
    try {
      encode(at::zeros({2}), Format::kCodebook4, options);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message_of({-1, 1}), "");
  EXPECT_NE(message_of({}).find("a codebook of 0 levels"), std::string::npos);
  EXPECT_NE(message_of(std::vector<float>(17)).find("number 2 to 16"), std::string::npos);
  EXPECT_NE(message_of({-1, 2, 2}).find("level 2 of the codebook, 2, is not above the one before it, 2"),
            std::string::npos);
  EXPECT_NE(message_of({-1, NAN}).find("level 1 of the codebook is nan"), std::string::npos);
  EXPECT_EQ(codebook_format(16), Format::kCodebook4);
  EXPECT_EQ(codebook_format(17), Format::kCodebook8);
  EXPECT_THROW(codebook_format(257), Error);
  EXPECT_THROW(codebook_format(1), Error);
}

}  // namespace
}  // namespace tsquant
