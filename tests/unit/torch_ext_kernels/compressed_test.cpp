// The loops of compressed weights and their operator, for every instruction set.
#include <gtest/gtest.h>

#include <map>

#include "kernels/compressed_dot.h"
#include "kernels/compressed_gemm.h"
#include "kernels/compressed_loops.h"
#include "targets.h"
#include "unit/torch_ext_ops/compressed_weight.h"

namespace tsquant::testing {
namespace {

class CompressedLoops : public EveryTarget {
 protected:
  std::mt19937 random{3};
};
INSTANTIATE_TEST_SUITE_P(Targets, CompressedLoops, all_targets(), target_name);

TEST_P(CompressedLoops, UnpackAnyPartOfARow) {
  for (int bits = 2; bits <= 8; ++bits) {
    const Format format = integer_format(bits);
    for (const int64_t n : {1, 8, 31, 63, 64, 65, 128, 129, 259, 515}) {
      const auto codes = at::randint(0, 1 << bits, {n}, at::kByte);
      const auto packed = pack(codes, format);
      const auto* bytes = packed.data_ptr<uint8_t>();
      for (const bool at_end : {false, true}) {
        const GuardedBytes from({bytes, bytes + packed.numel()}, at_end);
        for (int64_t begin = 0; begin < n; begin += begin < 64 ? 8 : 64) {
          for (const int64_t count : {n - begin, (n - begin) / 2, std::min<int64_t>(n - begin, 5)}) {
            const GuardedBytes to(static_cast<size_t>(count), at_end);
            kernels::unpack_codes(from.data(), n, bits, begin, count, 3, to.data());
            for (int64_t i = 0; i < count; ++i) {
              const int expected = codes[begin + i].item<int>() - (bits == 8 ? 0 : 3);
              ASSERT_EQ(to.data()[i], expected & 255)
                  << bits << " bits, " << n << " codes from " << begin << " at " << i;
            }
          }
        }
      }
    }
  }
}

TEST_P(CompressedLoops, HalvesAreThoseOfLibTorch) {
  const auto bits = at::arange(1 << 16).to(at::kInt);
  const auto halves = bits.to(at::kShort).view(at::kHalf);
  auto floats = at::empty({1 << 16});
  kernels::halves_to_floats(reinterpret_cast<const uint16_t*>(halves.data_ptr<at::Half>()), floats.numel(),
                            floats.data_ptr<float>());
  EXPECT_TRUE(identical(floats, halves.to(at::kFloat)));
}

TEST_P(CompressedLoops, InputsAreArrangedAsCodesAppear) {
  for (const int bits : {2, 3, 4, 8}) {
    const kernels::DotFormat format(bits, kernels::LevelKind::kSigned, nullptr);
    const int64_t step = format.step(), stride = format.arranged_step();
    std::vector<bool> seen(static_cast<size_t>(step), false);
    for (int p = 0; p < step; ++p) seen.at(static_cast<size_t>(format.element_at(p))) = true;
    EXPECT_EQ(std::count(seen.begin(), seen.end(), false), 0) << bits << " bits";
    const auto x = at::randn({step + 5});
    auto arranged = at::full({format.arranged(step + 5)}, NAN);
    kernels::arrange_inputs(format, x.data_ptr<float>(), x.numel(), arranged.data_ptr<float>());
    const auto inputs = arranged.view({2, stride}).slice(1, 0, step);
    EXPECT_EQ((inputs != 0).sum().item<int64_t>(), x.numel());
    for (int p = 0; p < step; ++p) {
      const float factor = format.factor_at(p);
      EXPECT_EQ(arranged[p].item<float>(), x[format.element_at(p)].item<float>() * factor) << bits << " bits, " << p;
    }
    const auto sums = arranged.view({2, stride}).slice(1, step);
    EXPECT_TRUE(at::allclose(sums.sum(), -x.sum(), 1e-4, 1e-4)) << bits << " bits";
  }
}

TEST_P(CompressedLoops, LevelsOfTablesAreIntegersWhereTheyCanBe) {
  using kernels::DotForm;
  const auto form = [](const std::vector<float>& levels) {
    return kernels::DotFormat(4, kernels::LevelKind::kTable16, levels.data()).form();
  };
  std::vector<float> levels(16);
  for (int i = 0; i < 16; ++i) levels[static_cast<size_t>(i)] = static_cast<float>(i * i - 40) / 8;
  EXPECT_EQ(form(levels), DotForm::kIntegerTable);
  levels[15] = 1000;
  EXPECT_EQ(form(levels), DotForm::kShortTable);
  levels[3] = 0.1F;
  EXPECT_EQ(form(levels), DotForm::kLongTable);
  levels[9] = NAN;
  EXPECT_EQ(form(levels), DotForm::kLongTable);
}

TEST_P(CompressedLoops, TransposesWithAnAddendPerRow) {
  for (const int64_t rows : {1, 4, 7, 48}) {
    for (const int64_t columns : {1, 4, 6, 33}) {
      const auto from = at::randn({rows, columns + 3}), addend = at::randn({rows});
      for (const bool adds : {false, true}) {
        auto to = at::full({columns, rows + 2}, 5.0F);
        kernels::transpose(from.data_ptr<float>(), columns + 3, rows, columns,
                           adds ? addend.data_ptr<float>() : nullptr, to.data_ptr<float>(), rows + 2);
        const auto expected = from.narrow(1, 0, columns).t() + (adds ? addend : at::zeros({rows}));
        EXPECT_TRUE(identical(to.narrow(1, 0, rows), expected)) << rows << " " << columns;
        EXPECT_TRUE((to.narrow(1, rows, 2) == 5).all().item<bool>()) << "written behind " << rows << " " << columns;
      }
    }
  }
}

TEST_P(CompressedLoops, RowsAreReadToTheirEndsOnly) {
  for (const int bits : {2, 3, 4, 8}) {
    const kernels::DotFormat format(bits, kernels::LevelKind::kSigned, nullptr);
    for (const int64_t n : {format.step(), 3 * format.step()}) {
      const auto codes = random_bytes(2 * format.row_bytes(n), random);
      const std::vector<float> ones(static_cast<size_t>(n), 1.0F), zeros(4, format.zero());
      std::vector<float> x(static_cast<size_t>(format.arranged(n)));
      kernels::arrange_inputs(format, ones.data(), n, x.data());
      std::vector<float> sums[2];
      for (const bool at_end : {false, true}) {
        const GuardedBytes guarded(codes, at_end);
        kernels::DotRows rows;
        rows.codes = guarded.data();
        rows.stride = format.row_bytes(n);
        rows.count = 2;
        rows.n = n;
        rows.scales = {ones.data(), 0, true};
        rows.zeros = {zeros.data(), 0, true};
        sums[at_end ? 1 : 0].resize(2);
        kernels::dot_rows(format, rows, x.data(), 0, 1, sums[at_end ? 1 : 0].data());
      }
      EXPECT_EQ(sums[0], sums[1]);
    }
  }
}

/// Every format in every form that rows have: whole steps, a rest, groups of blocks, other groups.
std::vector<StoredWeight> weights() {
  at::manual_seed(21);
  std::vector<StoredWeight> weights;
  for (const FormatRow& row : formats()) {
    for (const bool asymmetric : {false, true}) {
      if (asymmetric && !row.info.integer) continue;
      for (const auto& [size, group] :
           std::vector<std::pair<int64_t, int64_t>>{{256, -1}, {77, -1}, {384, 32}, {288, 96}, {80, 16}}) {
        weights.push_back(store(row, 5, size, {asymmetric, group}));
      }
    }
  }
  return weights;
}

std::vector<at::Tensor> products(const std::vector<StoredWeight>& all) {
  at::manual_seed(22);
  std::vector<at::Tensor> results;
  for (const StoredWeight& w : all) {
    for (const int64_t inputs : {1, 3, 20}) {
      const auto x = at::randn({inputs, w.size});
      results.push_back(linear(x, w));
      EXPECT_TRUE(is_product(results.back(), x, w)) << w.format << " " << w.size << " " << w.group_size;
    }
  }
  return results;
}

TEST(CompressedTargets, GiveTheSameBitsAsTheirLike) {
  const auto all = weights();
  std::map<bool, std::vector<at::Tensor>> first;  // by whether there is a fused multiply-add
  for (const kernels::Isa isa : kernels::available_isas()) {
    kernels::limit_isa(isa);
    const auto results = products(all);
    kernels::limit_isa(c10::nullopt);
    const bool fused = isa >= kernels::Isa::kAvx2;
    if (first[fused].empty()) {
      first[fused] = results;
      continue;
    }
    for (size_t i = 0; i < results.size(); ++i) {
      EXPECT_TRUE(identical(results[i], first[fused][i])) << kernels::isa_name(isa) << " " << all[i / 3].format;
    }
  }
}

}  // namespace
}  // namespace tsquant::testing
