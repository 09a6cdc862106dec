#include "compression/group_codec.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "algorithm_specs.h"
#include "compression/round_to_nearest.h"

namespace tsquant::testing {
namespace {

TEST(GroupCodec, GivesTheCodesOfWholeWeights) {
  at::manual_seed(1);
  const auto weight = at::randn({4, 32});
  for (const auto& spec : low_bit_specs()) {
    SCOPED_TRACE(to_string(spec.format));
    auto whole = round_to_nearest(weight, spec);
    whole.codes = quantize(weight, whole.qparams);  // NVFP4 has its codes from other scales
    const auto values = decompress(whole), scales = whole_scales(whole.qparams);
    const auto codes = whole.codes.contiguous();
    const int64_t size = spec.group_size;
    const GroupCodec codec(whole.qparams);
    for (int64_t group = 0; group < weight.numel() / size; ++group) {
      const float scale = scales.data_ptr<float>()[group];
      const int64_t zero_point = whole.qparams.zero_point.contiguous().data_ptr<int64_t>()[group];
      const float* w = weight.data_ptr<float>() + group * size;
      std::vector<uint8_t> got(size), each(size);
      std::vector<float> levels(size), scale_of_each(size, scale);
      const std::vector<int64_t> zero_of_each(size, zero_point);
      codec.encode(w, size, scale, zero_point, got.data(), levels.data());
      codec.encode_each(w, size, scale_of_each.data(), zero_of_each.data(), each.data(), levels.data());
      EXPECT_EQ(got, each);
      for (int64_t i = 0; i < size; ++i) {
        EXPECT_EQ(got[i], static_cast<const uint8_t*>(codes.data_ptr())[group * size + i]);
        EXPECT_FLOAT_EQ(levels[i] * scale, values.data_ptr<float>()[group * size + i]);
      }
    }
  }
}

TEST(GroupCodec, KnowsWhichScalesCanBeStored) {
  at::manual_seed(2);
  const auto weight = at::randn({4, 32}), parts = at::rand({100}) + 0.1;
  for (const auto& spec : low_bit_specs()) {
    SCOPED_TRACE(to_string(spec.format));
    auto q = round_to_nearest(weight, spec).qparams;
    const auto wanted = (parts / 1.1 * whole_scales(q).abs().max()).contiguous();
    const GroupCodec codec(q);
    const bool any = format_info(spec.format).scale == ScaleFormat::kFloat;
    for (int64_t i = 0; i < wanted.numel(); ++i) {
      const float scale = wanted.data_ptr<float>()[i], stored = codec.storable(scale);
      EXPECT_TRUE(codec.usable(stored));
      EXPECT_FLOAT_EQ(codec.storable(stored), stored);
      const float other = codec.other_storable(scale);
      if (any) EXPECT_EQ(stored, scale);
      if (!any) EXPECT_LT(std::fabs(std::log2(stored / scale)), 0.51);
      if (format_info(spec.format).scale != ScaleFormat::kPowerOfTwo) {
        EXPECT_EQ(other, stored);
      } else {
        EXPECT_EQ(std::max(other, stored), 2 * std::min(other, stored));
        EXPECT_TRUE((other < scale) != (stored < scale));
      }
    }
    EXPECT_FALSE(codec.usable(0));
    EXPECT_FALSE(codec.usable(NAN));
    EXPECT_FALSE(codec.usable(INFINITY));
    EXPECT_EQ(codec.usable(-1), format_info(spec.format).integer && spec.mode == QuantizationScheme::kSymmetric);
    // What the parameters hold survives the way through whole scales.
    const auto before = q.scale.clone();
    set_whole_scales(q, whole_scales(q));
    EXPECT_TRUE(at::equal(q.scale, before));
  }
}

}  // namespace
}  // namespace tsquant::testing
