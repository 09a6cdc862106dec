#include "quantizers/spec_text.h"

#include <gtest/gtest.h>

namespace tsquant {
namespace {

TEST(SpecText, NamesWhatIsSet) {
  QuantizationSpec spec;
  EXPECT_EQ(spec_text(spec), "8 bits symmetric");
  spec.format = Format::kInt4;
  spec.mode = QuantizationScheme::kAsymmetric;
  EXPECT_EQ(spec_text(spec), "4 bits asymmetric");
  spec = {};
  spec.signedness_to_force = false;
  EXPECT_EQ(spec_text(spec), "8 bits unsigned symmetric");
  spec.signedness_to_force = true;
  spec.narrow_range = spec.half_range = spec.per_channel = true;
  spec.ch_axis = 1;
  EXPECT_EQ(spec_text(spec), "8 bits signed symmetric, narrow range, half range, per channel (axis 1)");
  spec = {};
  spec.dtype = c10::kChar;
  spec.quant_min = -127;
  spec.quant_max = 127;
  EXPECT_EQ(spec_text(spec), "Char [-127, 127] symmetric");
  spec = {};
  spec.fixed_scale = 0.5;
  spec.fixed_zero_point = 3;
  EXPECT_EQ(spec_text(spec), "8 bits symmetric, fixed scale 0.5 and zero point 3");
}

TEST(SpecText, FloatingPointFormatsHaveNoBits) {
  QuantizationSpec spec;
  spec.format = Format::kF8E4M3;
  EXPECT_EQ(spec_text(spec), "f8e4m3");
  spec.format = Format::kF8E5M2;
  spec.per_channel = true;
  EXPECT_EQ(spec_text(spec), "f8e5m2, per channel (axis 0)");
}

TEST(SpecText, GroupsTakeThePlaceOfChannels) {
  QuantizationSpec spec;
  spec.format = Format::kInt4;
  spec.per_channel = true;
  spec.group_size = 32;
  EXPECT_EQ(spec_text(spec), "4 bits symmetric, groups of 32 (axis -1)");
}

}  // namespace
}  // namespace tsquant
